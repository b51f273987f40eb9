"""PgBouncer in transaction mode: few connections of the server serve many clients, and every time-out holds."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import String, bindparam, func, literal_column, make_url, select, text
from sqlalchemy.exc import DBAPIError

from app.database.driver import Statement
from app.database.failures import database_error
from app.database.sessions import Database
from app.errors import Unavailable
from tests import servers
from tests.conftest import SERVER
from tests.factories import SECRET, open_database
from tests.programs import run

SERVER_CONNECTIONS = 3
ECHO: Statement = select(bindparam("value", type_=String()), literal_column("pg_backend_pid()"))


@pytest.fixture(scope="module")
def pooler() -> Iterator[str]:
    """PgBouncer before the tests' server."""
    with servers.pgbouncer(os.environ[SERVER], pool_size=SERVER_CONNECTIONS) as url:
        yield url


@pytest.fixture
def pooled_url(pooler: str, postgresql_url: str, anyio_backend: object) -> str:  # noqa: ARG001 - for fixtures in its loop
    """A migrated database, by way of PgBouncer."""
    return make_url(pooler).set(database=make_url(postgresql_url).database).render_as_string()


@pytest.fixture
async def database(pooled_url: str) -> AsyncIterator[Database]:
    """The same, with many more connections to PgBouncer than PgBouncer has to the server."""
    async with open_database(pooled_url, pool_size=40, pooler=True) as database:
        yield database


async def test_many_connections_share_the_few_of_the_server(database: Database) -> None:
    """Each client gets its own answers, although the server's connection may change between two statements."""

    async def ask(number: int) -> int:
        [(hot, pid)] = await database.fetch_prepared(ECHO, {"value": str(number)})
        [(value, _)] = await database.fetch(ECHO, {"value": str(number)})
        async with database.transaction() as session:
            again = await session.scalar(
                select(func.concat(bindparam("value", type_=String()), "!")), {"value": str(number)}
            )
        assert (hot, value, again) == (str(number), str(number), f"{number}!")
        return int(pid)

    pids = await asyncio.gather(*(ask(number) for number in range(30)))
    assert 1 < len(set(pids)) <= SERVER_CONNECTIONS


async def test_a_transaction_has_the_time_outs_of_the_service(database: Database) -> None:
    """The time-outs end with the transaction, since the connection may be another client's next."""
    show = "SELECT current_setting('statement_timeout') || ' ' || current_setting('lock_timeout')"
    async with database.transaction() as session:
        assert await session.scalar(text(show)) == "2800ms 2500ms"
    async with database.engine.connect() as connection:
        assert (await connection.execute(text(show))).scalar_one() == "0 0"


async def test_a_lock_is_not_waited_for_for_ever(database: Database, cleaner: asyncpg.Connection) -> None:
    async with cleaner.transaction():
        await cleaner.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DBAPIError) as raised:
            async with database.transaction() as session:
                await session.execute(text("SELECT count(*) FROM items"))
    assert getattr(raised.value.orig, "sqlstate", None) == "55P03"


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_statement_of_its_own_is_cancelled_on_the_server(
    database: Database, server: asyncpg.Connection, *, prepared: bool
) -> None:
    """The driver cancels it through PgBouncer, and no statement runs on that nobody waits for."""
    sleep = select(literal_column("pg_sleep(30)::text", String()))
    with pytest.raises((DBAPIError, TimeoutError)) as raised:
        await (database.fetch_prepared(sleep, {}) if prepared else database.fetch(sleep, {}))
    assert isinstance(database_error(raised.value), Unavailable)
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(30)%'"
    deadline = time.monotonic() + 5
    while await server.fetchval(running):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert (await database.fetch(ECHO, {"value": "x"}))[0][0] == "x"


def test_a_pooler_that_the_service_does_not_know_of_is_one_clear_line(pooled_url: str, tmp_path: Path) -> None:
    """The line says which setting is missing."""
    ended = run(tmp_path, "app", SECRET_KEY=SECRET, DATABASE_URL=pooled_url, DATABASE_POOLER="false")
    assert ended.returncode == 1
    assert ended.stderr.startswith("The database of DATABASE_URL can't be used: ")
    assert ended.stderr.endswith("set DATABASE_POOLER=true\n")
    assert ended.stderr.count("\n") == 1
