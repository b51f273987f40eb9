"""Transactions, and what becomes of a request when the database fails."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from secrets import token_hex

import asyncpg
import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from app.__main__ import migrate
from app.database.engine import POSTGRESQL_SETTINGS, driver_url
from app.database.failures import database_error
from app.database.sessions import Database
from app.database.status import REVISION
from app.errors import InvalidFields, OwnerGone, Unavailable
from app.http.problems import cause_of
from app.main import create_app
from app.security.tokens import ACCESS
from app.settings import Settings
from app.users.models import User
from tests.factories import (
    PASSWORD,
    SECRET,
    People,
    add_user,
    connect_to,
    create_item,
    log_in,
    on_postgresql,
    on_sqlite,
    register,
)
from tests.problems import assert_problem

AWAY = "The service is temporarily unavailable; try again"


def database_of(app: Litestar) -> Database:
    """An application's own database."""
    database: Database = app.state.database
    return database


def is_sqlite(app: Litestar) -> bool:
    """Whether an application is on SQLite."""
    return database_of(app).engine.dialect.name == "sqlite"


async def execute(app: Litestar, *statements: str) -> None:
    """Send statements as they are, each in a transaction of its own."""
    for statement in statements:
        async with database_of(app).transactional.begin() as connection:
            await connection.exec_driver_sql(statement)


# A COMMIT that fails --------------------------------------------------------------------------------------------------

# Each makes whoever writes to a table fail, but not before they commit.
FAILING_COMMIT = {
    "sqlite": [
        "CREATE TABLE target (id INTEGER PRIMARY KEY)",
        "CREATE TABLE broken (id INTEGER REFERENCES target (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER break_users AFTER INSERT ON users BEGIN INSERT INTO broken VALUES (1); END",
        "CREATE TRIGGER break_items AFTER INSERT ON items BEGIN INSERT INTO broken VALUES (1); END",
    ],
    "postgresql": [
        """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'canary' USING ERRCODE = '53100'; END $$""",
        """CREATE CONSTRAINT TRIGGER break_users AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail()""",
        """CREATE CONSTRAINT TRIGGER break_items AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail()""",
    ],
}


@pytest.mark.parametrize("write", [lambda client: register(client, "bob"), create_item], ids=["register", "item"])
async def test_a_commit_that_fails_is_an_error_and_leaves_nothing(
    own_database_url: str, write: Callable[[AsyncClient], Awaitable[Response]]
) -> None:
    """Never a 201; and the connection is as good as new, so that no later request commits what is left over."""
    app = create_app(Settings(secret_key=SECRET, database_url=own_database_url, jobs_in_process=False))
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        await execute(app, *FAILING_COMMIT[database_of(app).engine.dialect.name])
        for _ in range(22):  # more often than the pool has connections
            assert_problem(await write(alice), 409 if is_sqlite(app) else 503)
        for table in ("users", "items"):
            await execute(app, f"DROP TRIGGER break_{table}" + ("" if is_sqlite(app) else f" ON {table}"))
        assert (await alice.get("/items/")).json() == []
        assert (await write(alice)).status_code == 201
        rows = [len((await alice.get("/items/")).json()), await count(app, "users") - 1]
        assert sorted(rows) == [0, 1]


async def count(app: Litestar, table: str) -> int:
    """How many rows a table has."""
    async with database_of(app).engine.connect() as connection:
        rows: int = (await connection.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608 - ours
        return rows


async def test_an_error_after_a_write_rolls_it_back(app: Litestar) -> None:
    """Whatever was written before it in the same transaction."""
    with pytest.raises(ZeroDivisionError):
        await fail_after_writing(app)
    assert await count(app, "users") == 0
    await database_of(app).close()


async def fail_after_writing(app: Litestar) -> None:
    """Write a row, and raise an error in the same transaction."""
    async with database_of(app).transaction() as session:
        await session.execute(
            text(
                "INSERT INTO users (username, email, username_key, email_key, hashed_password, is_active, is_superuser,"
                " email_verified, created_at, updated_at) VALUES ('a', 'a', 'a', 'a', 'x', true, false, false,"
                " CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
            )
        )
        raise ZeroDivisionError


# SQLite's defaults ----------------------------------------------------------------------------------------------------


@on_sqlite
async def test_sqlite_is_told_what_it_does_not_do_by_itself(app: Litestar) -> None:
    """On every connection: to read beside a writer, to check references, to wait for a lock."""
    engine = database_of(app).engine
    async with engine.connect() as first, engine.connect() as second:
        for pragma, wanted in [
            ("journal_mode", "wal"),
            ("foreign_keys", 1),
            ("busy_timeout", 5000),
            ("synchronous", 1),
        ]:
            values = [(await one.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one() for one in (first, second)]
            assert values == [wanted, wanted], pragma
    await database_of(app).close()


@on_sqlite
async def test_a_transaction_that_reads_before_it_writes_loses_no_update(app: Litestar) -> None:
    """It takes the write lock when it begins, not when it writes; of two services on one file, too."""
    alice = await add_user(app, "alice")
    other = Database(database_of(app).engine.url.render_as_string())

    async def add_one(database: Database) -> None:
        async with database.transaction() as session:
            user = await session.get_one(User, alice.id)
            user.email = str(int(user.email) + 1)

    await execute(app, "UPDATE users SET email = '0'")
    await asyncio.gather(*(add_one(database) for database in (database_of(app), other) for _ in range(30)))
    async with database_of(app).reading() as session:
        assert (await session.get_one(User, alice.id)).email == "60"
    await other.close()
    await database_of(app).close()


# A database that is away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["postgresql://canary:canary@127.0.0.1:1/canary", "sqlite:////nowhere/canary.sqlite3"],
    ids=["postgresql", "sqlite"],
)
async def test_while_the_database_is_away_the_answer_is_503(url: str) -> None:
    """With Retry-After, and with no word of the driver's; what needs no database still answers."""
    app = create_app(Settings(secret_key=SECRET, database_url=url, jobs_in_process=False))
    token = app.state.tokens.issue(ACCESS, 1, timedelta(hours=1), sid=1)
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
async def test_after_a_restart_of_the_database_the_service_serves_again(
    app: Litestar, people: People, server: asyncpg.Connection
) -> None:
    """One answer may be a 503, for the connections that broke; then there are new ones."""
    alice = await people.sign_in("alice")
    await asyncio.gather(*(alice.get("/users/me") for _ in range(8)))
    await server.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = $1 AND application_name = 'backend-api'""",
        database_of(app).engine.url.database,
    )
    first = await alice.get("/users/me")
    if first.status_code != 200:
        assert_problem(first, 503, AWAY)
    answers = await asyncio.gather(*(alice.get("/users/me") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_a_connection_that_the_server_refuses_is_503(database_url: str, server: asyncpg.Connection) -> None:
    """However a statement is sent."""
    role = f"refused_{token_hex(4)}"
    await server.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    database = Database(make_url(database_url).set(username=role).render_as_string(hide_password=False))
    try:
        for fetch in (database.fetch, database.fetch_prepared):
            with pytest.raises(DBAPIError) as raised:
                await fetch(REVISION, {})
            assert isinstance(database_error(raised.value), Unavailable)
            assert cause_of(raised.value) == "TooManyConnectionsError"
    finally:
        await database.close()
        await server.execute(f"DROP ROLE {role}")


# Deadlocks ------------------------------------------------------------------------------------------------------------

# A sequence counts on although the transaction is rolled back.
DEADLOCKED = """
CREATE SEQUENCE attempts;
CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('attempts') <= {times} THEN RAISE 'canary' USING ERRCODE = '{state}'; END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER deadlock_items BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION deadlock();
CREATE TRIGGER deadlock_users BEFORE UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION deadlock();
CREATE TRIGGER deadlock_sessions BEFORE INSERT OR DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION deadlock();
"""
PASSWORDS = {"current_password": PASSWORD, "new_password": "another correct horse"}


@pytest.fixture
async def deadlocked_app(empty_postgresql_url: str) -> AsyncIterator[Callable[[int, str], Awaitable[AsyncClient]]]:
    """Makes a user of an application whose next statements the database ends so many times."""
    await asyncio.to_thread(migrate, empty_postgresql_url)
    app = create_app(Settings(secret_key=SECRET, database_url=empty_postgresql_url, jobs_in_process=False))
    async with connect_to(app) as client, asyncpg.create_pool(empty_postgresql_url, min_size=0) as pool:

        async def sign_in(times: int, state: str) -> AsyncClient:
            alice = await People(app, client).sign_in("alice")
            await pool.execute(DEADLOCKED.format(times=times, state=state))
            return alice

        yield sign_in


@pytest.mark.parametrize("state", ["40P01", "40001"])
@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda alice: alice.post("/items/", json={"title": "a"}, headers={"Idempotency-Key": "a"}), 201),
        (lambda alice: alice.post("/items/", json={"title": "a"}), 201),
        (lambda alice: alice.delete("/users/me"), 204),
        (lambda alice: alice.patch("/users/me", json={"username": "bob"}), 200),
        (lambda alice: alice.put("/users/me/password", json=PASSWORDS), 204),
        (lambda alice: log_in(alice, "alice"), 200),
    ],
    ids=["key", "item", "account", "name", "password", "login"],
)
async def test_what_a_deadlock_has_ended_is_done_once_more(
    deadlocked_app: Callable[[int, str], Awaitable[AsyncClient]],
    send: Callable[[AsyncClient], Awaitable[Response]],
    state: str,
    status: int,
) -> None:
    """The client knows nothing of it."""
    alice = await deadlocked_app(1, state)
    assert (await send(alice)).status_code == status


async def test_what_deadlocks_twice_is_503(deadlocked_app: Callable[[int, str], Awaitable[AsyncClient]]) -> None:
    """With Retry-After, and nothing is written."""
    alice = await deadlocked_app(2, "40P01")
    assert_problem(await create_item(alice), 503, AWAY)
    assert (await alice.get("/items/")).json() == []
    assert (await create_item(alice)).status_code == 201


# Waiting --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, app: Litestar) -> None:
    """Time-outs of the database that a test needn't wait long for."""
    engine = database_of(app).engine
    if is_sqlite(app):

        def wait_shortly(connection: DBAPIConnection, _entry: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 200")
            cursor.close()

        event.listen(engine.sync_engine, "connect", wait_shortly)
    else:
        monkeypatch.setitem(POSTGRESQL_SETTINGS, "lock_timeout", "200")
    monkeypatch.setattr(engine.pool, "_timeout", 0.2)


@asynccontextmanager
async def locked(app: Litestar, table: str) -> AsyncIterator[None]:
    """Hold a lock that writers of a table wait for."""
    async with database_of(app).transactional.connect() as connection, connection.begin():
        if not is_sqlite(app):
            await connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.usefixtures("impatient")
async def test_a_lock_that_is_held_for_too_long_is_503(app: Litestar, client: AsyncClient) -> None:
    """And nothing is written later."""
    async with locked(app, "users"):
        assert_problem(await register(client, "alice"), 503, AWAY)
    assert await count(app, "users") == 0
    assert (await register(client, "alice")).status_code == 201


@pytest.mark.usefixtures("impatient")
async def test_when_all_connections_are_taken_the_answer_is_503(app: Litestar, client: AsyncClient) -> None:
    """A request doesn't wait for one for ever; readiness says so, too."""
    await add_user(app, "alice")
    engine = database_of(app).engine
    connections = [await engine.connect() for _ in range(15 if is_sqlite(app) else 20)]
    assert_problem(await log_in(client, "alice"), 503, AWAY)
    assert_problem(await client.get("/health/ready"), 503, "The database does not answer")
    for connection in connections:
        await connection.close()
    assert (await log_in(client, "alice")).status_code == 200


async def test_many_requests_at_once_share_the_connections(people: People) -> None:
    """Four times as many as there are; none is held while another is waited for."""
    alice = await people.sign_in("alice")
    answers = await asyncio.gather(*(create_item(alice, str(number)) for number in range(80)))
    assert {answer.status_code for answer in answers} == {201}


# What errors mean -----------------------------------------------------------------------------------------------------


async def error_of(app: Litestar, statement: str, **parameters: object) -> Exception:
    """What the database raises at a statement."""
    with pytest.raises(Exception, match=r".") as raised:
        async with database_of(app).transactional.begin() as connection:
            await connection.execute(text(statement), parameters)
    await database_of(app).close()
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
        *((state, None) for state in ("23502", "23505", "23514", "42703", "42601", "P0001")),
    ],
)
async def test_what_an_error_of_postgresql_means(app: Litestar, state: str, meaning: type[Exception] | None) -> None:
    """The client's text or number (422), the server's state (503), or a bug of ours (500), by its SQLSTATE."""
    error = await error_of(app, f"DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '{state}'; END $$")
    mapped = database_error(error)
    assert type(mapped) is (meaning or type(None))


@on_postgresql
async def test_the_log_names_an_outage_as_the_driver_does(app: Litestar) -> None:
    """A full disk is to be told from a time-out; a wait for a connection is no driver's error."""
    error = await error_of(app, "DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '53100'; END $$")
    assert cause_of(error) == "DiskFullError"
    assert cause_of(ConnectionRefusedError()) == "ConnectionRefusedError"


@on_sqlite
@pytest.mark.parametrize(
    ("statement", "parameter", "meaning"),
    [
        ("SELECT :p", 2**63, InvalidFields),
        ("SELECT :p", "\ud800", InvalidFields),
        ("SELECT * FROM nowhere", None, Unavailable),
        ("INSERT INTO sessions (id) VALUES (1)", None, type(None)),
    ],
    ids=["too large", "surrogate", "not migrated", "not null"],
)
async def test_what_an_error_of_sqlite_means(
    app: Litestar, statement: str, parameter: object, meaning: type[Exception]
) -> None:
    """It has no SQLSTATE; the kind of the exception tells."""
    error = await error_of(app, statement, **({"p": parameter} if parameter else {}))
    assert type(database_error(error)) is meaning


def test_an_error_that_is_not_the_databases_means_nothing() -> None:
    """It is a bug, and is logged as one."""
    assert database_error(ZeroDivisionError()) is None
    assert isinstance(database_error(ConnectionRefusedError()), Unavailable)
    assert isinstance(database_error(TimeoutError()), Unavailable)
    broken = DBAPIError("SELECT 1", {}, sqlite3.ProgrammingError("closed"), connection_invalidated=True)
    assert isinstance(database_error(broken), Unavailable)


# URLs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///file", "sqlite+aiosqlite:///file"),
        ("sqlite:////tmp/file", "sqlite+aiosqlite:////tmp/file"),
        ("sqlite+aiosqlite:///file", "sqlite+aiosqlite:///file"),
        ("postgres://u:p@h/n", "postgresql+asyncpg://u:p@h/n"),
        ("postgresql://u:p@h:5/n", "postgresql+asyncpg://u:p@h:5/n"),
        ("postgresql+asyncpg://h/n", "postgresql+asyncpg://h/n"),
        ("postgresql://h/n?sslmode=require", "postgresql+asyncpg://h/n?ssl=require"),
        ("postgresql://u:postgres:%2F%2F@h/n", "postgresql+asyncpg://u:postgres%3A%2F%2F@h/n"),
    ],
)
def test_a_plain_url_gets_its_asyncio_driver(url: str, driver: str) -> None:
    """And libpq's `sslmode` the name that asyncpg gives it."""
    assert driver_url(url).render_as_string(hide_password=False) == driver
