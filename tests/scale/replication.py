"""A PostgreSQL primary and its hot standby, on Unix sockets, from the wheel's binaries."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from tests.postgresql import other_user, programs

SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "100", "wal_level": "replica"}


class Server:
    """One server in a folder of its own."""

    def __init__(self, folder: Path, binaries: Path, user: str | None) -> None:
        self.folder = folder
        self.binaries = binaries
        self.user = user
        self.url = f"postgresql://postgres@/postgres?host={folder}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs on the server's data until it ends."""
        command = [str(self.binaries / program), "-D", f"{self.folder}/data", *arguments]
        subprocess.run(command, user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Return when it takes connections."""
        settings = SETTINGS | {"unix_socket_directories": str(self.folder)}
        options = " ".join(f"--{name}={value}" for name, value in settings.items())
        self.run("pg_ctl", "start", "--wait", "--silent", f"--log={self.folder}/log", f"--options={options}")

    def kill(self) -> None:
        """End it as a crash does: nothing is written, and no client is told."""
        self.run("pg_ctl", "stop", "--silent", "--mode=immediate")

    async def execute(self, statement: str) -> str | int | None:
        """The first value of a statement's rows."""
        connection = await asyncpg.connect(self.url)
        try:
            value: str | int | None = await connection.fetchval(statement)
            return value
        finally:
            await connection.close()


@contextmanager
def primary_and_standby() -> Iterator[tuple[Server, Server]]:
    """Both run; the standby replays as soon as it can."""
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as name:
        user = other_user(name)
        binaries = programs(Path(name), copy=user is not None)
        servers = []
        for part in ("primary", "standby"):
            folder = Path(name) / part
            folder.mkdir()
            other_user(str(folder))
            servers.append(Server(folder, binaries, user))
        primary, standby = servers
        primary.run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        primary.start()
        try:
            standby.run("pg_basebackup", "--write-recovery-conf", "--no-sync", "--checkpoint=fast", f"-d{primary.url}")
            standby.start()
            try:
                yield primary, standby
            finally:
                standby.kill()
        finally:
            primary.kill()
