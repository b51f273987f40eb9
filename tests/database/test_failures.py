"""A failure of the database is the client's mistake (422), an outage (503) or a bug (500), on either database."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from secrets import token_hex

import asyncpg
import pytest
from sqlalchemy import Integer, func, make_url, select, text
from sqlalchemy.exc import DBAPIError

from app.database.failures import database_error
from app.database.sessions import Database
from app.database.status import REVISION
from app.errors import InvalidFields, OwnerGone, Unavailable
from app.http.problems import cause_of
from app.main import create_app
from app.security.tokens import ACCESS
from app.settings import Settings
from tests.factories import SECRET, connect_to, log_in, on_postgresql, on_sqlite, open_database, parts_of, register
from tests.problems import assert_problem

AWAY = "The service is temporarily unavailable; try again"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The test's database without an application, which would take longer to make."""
    async with open_database(database_url) as database:
        yield database


# A database that is away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["postgresql://canary:canary@127.0.0.1:1/canary", "sqlite:////nowhere/canary.sqlite3"],
    ids=["postgresql", "sqlite"],
)
async def test_while_the_database_is_away_the_answer_is_503(url: str) -> None:
    """Requests that need no database are still answered."""
    app = create_app(Settings(secret_key=SECRET, database_url=url, jobs_in_process=False))
    token = parts_of(app).tokens.issue(ACCESS, 1, timedelta(hours=1), sid=1)
    async with connect_to(app) as client:
        me = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        for answer in (me, await register(client, "alice"), await log_in(client, "alice")):
            assert_problem(answer, 503, AWAY)
        ready = await client.get("/health/ready")
        assert_problem(ready, 503, "The database does not answer")
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/users/me")).status_code == 401


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_a_connection_that_the_server_refuses_is_503(database_url: str, server: asyncpg.Connection) -> None:
    role = f"refused_{token_hex(4)}"
    await server.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    url = make_url(database_url).set(username=role).render_as_string(hide_password=False)
    try:
        async with open_database(url) as database:
            for fetch in (database.fetch, database.fetch_prepared):
                with pytest.raises(DBAPIError) as raised:
                    await fetch(REVISION, {})
                assert isinstance(database_error(raised.value), Unavailable)
                assert cause_of(raised.value) == "TooManyConnectionsError"
    finally:
        await server.execute(f"DROP ROLE {role}")


BACKEND = select(func.pg_backend_pid(type_=Integer()))


async def lose_connection(database: Database, server: asyncpg.Connection, *, pause: bool) -> None:
    """Have the server end a connection in the middle of a transaction, and send another statement on it."""
    async with database.transaction() as transaction:
        await server.execute("SELECT pg_terminate_backend($1)", await transaction.scalar(BACKEND))
        if pause:
            await asyncio.sleep(0)
        await transaction.execute(BACKEND)


@pytest.mark.direct("about connections of the server's own")
async def test_a_connection_that_ends_in_a_transaction_is_an_outage(
    postgresql_url: str, server: asyncpg.Connection
) -> None:
    """Between the end's announcement and the end itself, asyncpg raises an error of its own."""
    async with open_database(postgresql_url, pool_size=1) as database:
        for number in range(60):
            with pytest.raises(DBAPIError) as failure:
                await lose_connection(database, server, pause=bool(number % 2))
            assert isinstance(database_error(failure.value), Unavailable)
            assert failure.value.connection_invalidated


# Errors of statements -------------------------------------------------------------------------------------------------


async def error_of(database: Database, statement: str, **parameters: object) -> Exception:
    """Run a statement, and return the error that the database raises."""
    with pytest.raises(Exception, match=r".") as raised:
        async with database.transaction() as transaction:
            await transaction.execute(text(statement), parameters)
    return raised.value


@on_postgresql
@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        *((state, InvalidFields) for state in ("22000", "22001", "22003", "22021", "22P05")),
        *(
            (state, Unavailable)
            for state in ("08006", "28P01", "3D000", "25006", "25P03", "40001", "40P01", "42P01", "53100", "53300")
        ),
        *((state, Unavailable) for state in ("55000", "55P03", "57014", "57P01", "57P03", "58030", "XX000")),
        ("23503", OwnerGone),
        *((state, type(None)) for state in ("23502", "23505", "23514", "42703", "42601", "P0001")),
    ],
)
async def test_the_sqlstate_says_what_an_error_of_postgresql_means(
    database: Database, state: str, meaning: type[object]
) -> None:
    error = await error_of(database, f"DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '{state}'; END $$")
    assert type(database_error(error)) is meaning


@on_postgresql
async def test_the_log_names_an_outage_as_the_driver_does(database: Database) -> None:
    """Operators tell a full disk from a time-out by it. An error that is none of the driver's keeps its own name."""
    error = await error_of(database, "DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '53100'; END $$")
    assert cause_of(error) == "DiskFullError"
    assert cause_of(ConnectionRefusedError()) == "ConnectionRefusedError"


@on_sqlite
@pytest.mark.parametrize(
    ("statement", "parameters", "meaning"),
    [
        ("SELECT :p", {"p": 2**63}, InvalidFields),
        ("SELECT :p", {"p": "\ud800"}, InvalidFields),
        ("SELECT * FROM nowhere", {}, Unavailable),
        ("INSERT INTO sessions (id) VALUES (1)", {}, type(None)),
    ],
    ids=["too large", "surrogate", "not migrated", "not null"],
)
async def test_the_exceptions_type_says_what_an_error_of_sqlite_means(
    database: Database, statement: str, parameters: dict[str, object], meaning: type[object]
) -> None:
    error = await error_of(database, statement, **parameters)
    assert type(database_error(error)) is meaning


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        DBAPIError("SELECT 1", {}, sqlite3.ProgrammingError("closed"), connection_invalidated=True),
    ],
    ids=["refused", "time-out", "lost"],
)
def test_a_connection_that_does_not_come_about_or_is_lost_is_an_outage(error: Exception) -> None:
    assert isinstance(database_error(error), Unavailable)


def test_an_error_that_is_not_the_databases_is_a_bug() -> None:
    assert database_error(ZeroDivisionError()) is None


def test_what_the_driver_of_sqlite_cannot_pass_on_is_a_bug_elsewhere() -> None:
    assert database_error(OverflowError()) is None
    assert database_error(UnicodeEncodeError("ascii", "ü", 0, 1, "bug")) is None
