"""Engines: SQLite's pragmas, time-outs, connections that the server has closed, and the URLs of both databases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from stat import S_IMODE
from urllib.parse import quote

import asyncpg
import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection

from app.database.engine import POSTGRESQL_SETTINGS, driver_url
from app.database.sessions import Database
from app.http.feature import Parts
from app.main import create_app
from app.operations.migrations import migrate
from app.settings import Settings
from app.settings.databases import check_database_url
from tests.factories import add_user, log_in, on_postgresql, on_sqlite, open_database, register
from tests.problems import assert_problem

AWAY = "The service is temporarily unavailable; try again"


@pytest.fixture
def app(settings: Settings) -> Litestar:
    """An application of the test's own, whose connections have time-outs of their own."""
    return create_app(settings)


def is_sqlite(database: Database) -> bool:
    """Return whether a database is SQLite's."""
    return database.engine.dialect.name == "sqlite"


# SQLite's pragmas -----------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("foreign_keys", 1), ("busy_timeout", 5000), ("synchronous", 1)],
)
async def test_every_connection_to_sqlite_has_these_pragmas(database: Database, pragma: str, value: str | int) -> None:
    """They let readers read beside a writer, check references, and wait for a lock."""
    async with database.engine.connect() as first, database.engine.connect() as second:
        for connection in (first, second):
            assert (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one() == value


# Connections ----------------------------------------------------------------------------------------------------------


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_after_a_restart_of_the_database_the_service_serves_again(
    parts: Parts, alice: AsyncClient, server: asyncpg.Connection
) -> None:
    """One answer may be a 503, for the connections that broke."""
    await asyncio.gather(*(alice.get("/users/me") for _ in range(8)))
    await server.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = $1 AND application_name = 'backend-api'""",
        parts.database.engine.url.database,
    )
    first = await alice.get("/users/me")
    if first.status_code != 200:
        assert_problem(first, 503, AWAY)
    answers = await asyncio.gather(*(alice.get("/users/me") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}


# Time-outs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_time_outs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Time-outs of the application's database that a test needn't wait long for."""
    monkeypatch.setitem(POSTGRESQL_SETTINGS, "lock_timeout", "200")
    parts: Parts = request.getfixturevalue("parts")  # which connects with the settings as they are now
    engine = parts.database.engine
    if is_sqlite(parts.database):

        def wait_shortly(connection: DBAPIConnection, _entry: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 200")
            cursor.close()

        event.listen(engine.sync_engine, "connect", wait_shortly)
    monkeypatch.setattr(engine.pool, "_timeout", 0.2)


@asynccontextmanager
async def locked(database: Database, table: str) -> AsyncIterator[None]:
    """Hold a lock that writers of a table wait for."""
    async with database.transaction() as transaction:
        if is_sqlite(database):
            await transaction.connection()  # which takes the one write lock
        else:
            await transaction.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.usefixtures("short_time_outs")
async def test_a_lock_that_is_held_for_too_long_is_503_and_nothing_is_written_later(
    client: AsyncClient, database: Database
) -> None:
    async with locked(database, "users"):
        assert_problem(await register(client, "alice"), 503, AWAY)
    async with database.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM users")) == 0
    assert (await register(client, "alice")).status_code == 201


@pytest.mark.usefixtures("short_time_outs")
async def test_when_all_connections_are_taken_the_answer_is_503(
    app: Litestar, client: AsyncClient, parts: Parts
) -> None:
    """The instance isn't ready either, and serves again when connections are back."""
    await add_user(app, "alice")
    engine = parts.database.engine
    connections = [await engine.connect() for _ in range(15 if is_sqlite(parts.database) else 20)]
    assert_problem(await log_in(client, "alice"), 503, AWAY)
    assert_problem(await client.get("/health/ready"), 503, "The database does not answer")
    for connection in connections:
        await connection.close()
    assert (await log_in(client, "alice")).status_code == 200


# Files of SQLite ------------------------------------------------------------------------------------------------------


async def test_the_files_of_a_database_are_their_owners_alone(sqlite_url: str) -> None:
    """Files that were there before become so when a process opens them."""
    file = make_url(sqlite_url).database or ""
    files = [Path(f"{file}{end}") for end in ("", "-wal", "-shm")]
    async with open_database(sqlite_url) as one, open_database(sqlite_url) as other:
        for database in (one, other):
            async with database.transaction() as transaction:
                await transaction.execute(text("DELETE FROM users"))
            assert [S_IMODE(path.stat().st_mode) for path in files] == [0o600] * 3
            for path in files:
                path.chmod(0o644)


def test_the_file_of_a_new_database_is_its_owners_alone(empty_sqlite_url: str) -> None:
    migrate(empty_sqlite_url)
    assert S_IMODE(Path(make_url(empty_sqlite_url).database or "").stat().st_mode) == 0o600


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
        ("postgresql://u@%2Ftmp%2Fx/n", "postgresql+asyncpg://u@/n?host=%2Ftmp%2Fx"),
        ("postgresql://u:p@a,b:5/n", "postgresql+asyncpg://u:p@/n?host=a%3A5432&host=b%3A5"),
        ("postgresql://a:5,b:6/n?sslmode=require", "postgresql+asyncpg:///n?host=a%3A5&host=b%3A6&sslmode=require"),
        ("postgresql://u:postgres:%2F%2F@h/n", "postgresql+asyncpg://u:postgres%3A%2F%2F@h/n"),
    ],
)
def test_a_plain_url_gets_its_asyncio_driver(url: str, driver: str) -> None:
    """Several hosts, and folders of sockets, go into the query, where SQLAlchemy looks for them."""
    assert driver_url(url).render_as_string(hide_password=False) == driver


FACTS = text(
    "SELECT current_setting('application_name'), current_setting('work_mem'), current_setting('statement_timeout'),"
    " current_database(), current_user::text"
)


@pytest.mark.direct("PgBouncer refuses options")
async def test_libpq_parameters_do_what_they_do_there(postgresql_url: str) -> None:
    """Some of them have other names in asyncpg, and some ask for what it does anyway."""
    address = make_url(postgresql_url)
    folder = quote(str(address.query["host"]), safe="")
    url = (
        f"postgresql://nobody@{folder}/?dbname={address.database}&user=postgres&application_name=mine"
        "&connect_timeout=1&options=-cwork_mem%3D5MB%20-cstatement_timeout%3D1&channel_binding=prefer&sslmode=prefer"
        "&gssencmode=disable&target_session_attrs=read-write&client_encoding=UTF8"
    )
    check_database_url(url)
    async with open_database(url) as database, database.reading() as session:
        facts = (await session.execute(FACTS)).one()
    # The service's own time-outs hold all the same.
    assert tuple(facts) == ("mine", "5MB", "2800ms", address.database, "postgres")
