"""Statements that the driver runs itself give the same rows and errors as SQLAlchemy, and keep to its pool."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Integer,
    LargeBinary,
    PickleType,
    String,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.auth.models import LoginSession
from app.database.driver import Rows, Statement, prepare
from app.database.sessions import Database
from app.http.problems import app_error
from app.items.models import Item
from app.jobs.models import Job
from tests.factories import on_postgresql, open_database

NUMBER = bindparam("number", type_=BigInteger())
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
INSERT = insert(Item).returning(Item.id)
ITEM = {"owner_id": 1, "title": "", "search_text": "", "version": 1, "created_at": AT, "updated_at": AT}
SLEEP = select(cast(func.pg_sleep(60), String))
BACKEND = select(func.pg_backend_pid(type_=Integer()))
TERMINATE = select(func.pg_terminate_backend(bindparam("pid", type_=Integer()), type_=Boolean()))
SLEEPER = (
    select(literal_column("pid", Integer()))
    .select_from(text("pg_stat_activity"))
    .where(text("query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"))
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The test's database without an application, which would take longer to make."""
    async with open_database(database_url) as database:
        yield database


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Database]:
    """The same database, by connections of its own."""
    async with open_database(database_url) as database:
        yield database


def borrowed(database: Database) -> int:
    """Return how many connections are out of the pool."""
    return database.engine.pool.checkedout()  # type: ignore[attr-defined,no-any-return]  # only some pools count


async def test_its_rows_are_those_of_sqlalchemy_and_times_are_in_utc(database: Database) -> None:
    statement = select(literal_column("1"), bindparam("at", type_=Job.run_at.type), bindparam("nothing", type_=None))
    parameters = {"at": AT, "nothing": None}
    (row,) = await database.fetch_prepared(statement, parameters)
    assert tuple(row) == tuple((await database.fetch(statement, parameters))[0])
    assert row[1] == AT


@on_postgresql
async def test_bytes_are_sent_as_they_are(database: Database) -> None:
    """All 256 of them."""
    data = bytes(range(256))
    statement = select(cast(func.encode(bindparam("data", type_=LargeBinary()), literal_column("'hex'")), String))
    ((text_of_it,),) = await database.fetch_prepared(statement, {"data": data})
    assert text_of_it == data.hex()
    assert database.prepared[statement] is not None


@on_postgresql
@pytest.mark.parametrize(
    "statement",
    [
        select(column("pickled", PickleType())).select_from(table("things")),
        select(Job.id).where(Job.payload == bindparam("payload")),
        select(Item.id).where(Item.id.in_(bindparam("ids", expanding=True))),
        insert(LoginSession).returning(LoginSession.id),
    ],
    ids=["a column that converts", "a parameter that converts", "a list", "a default of the table's"],
)
def test_a_statement_whose_values_sqlalchemy_converts_is_left_to_sqlalchemy(
    database: Database, statement: Statement
) -> None:
    assert prepare(statement, {"payload": {}, "ids": [], "id": 1, "user_id": 1}, database.engine.dialect) is None


@on_postgresql
@pytest.mark.parametrize(
    ("statement", "parameters", "kind", "status"),
    [
        (INSERT, ITEM | {"title": None}, IntegrityError, 500),
        (INSERT, ITEM, IntegrityError, 409),
        (select(NUMBER), {"number": 2**63}, DBAPIError, 422),
        (select(column("any", Integer())).select_from(table("missing")), {}, DBAPIError, 503),
        (select(literal_column("1 / 0", Integer())), {}, DBAPIError, 500),
    ],
    ids=["not null", "foreign key", "what the driver refuses", "no table", "division"],
)
async def test_its_errors_are_those_of_sqlalchemy(
    database: Database, statement: Statement, parameters: dict[str, object], kind: type[DBAPIError], status: int
) -> None:
    """A connection whose statement has failed goes back to the pool."""
    with pytest.raises(kind) as failure:
        await database.fetch_prepared(statement, parameters)
    assert app_error(failure.value).status == status
    assert not failure.value.connection_invalidated
    assert (borrowed(database), database.engine.pool.checkedin()) == (0, 1)  # type: ignore[attr-defined]  # as above


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_a_statement_that_is_broken_off_takes_its_connection_with_it(database: Database) -> None:
    """No other request gets a connection that may still be at work, and the pool loses no place."""
    (before,) = await database.fetch_prepared(BACKEND, {})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await database.fetch_prepared(SLEEP, {})
    assert borrowed(database) == 0
    (after,) = await database.fetch_prepared(BACKEND, {})
    assert before[0] != after[0]


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_a_connection_that_ends_under_a_statement_is_an_outage_and_leaves_the_pool(
    database: Database, other: Database
) -> None:
    waiting = asyncio.create_task(database.fetch_prepared(SLEEP, {}))
    rows: Rows = []
    while not rows:
        rows = await other.fetch(SLEEPER, {})
    await other.fetch(TERMINATE, {"pid": rows[0][0]})
    with pytest.raises(DBAPIError) as failure:
        await waiting
    assert failure.value.connection_invalidated
    assert app_error(failure.value).status == 503
    assert borrowed(database) == 0


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_no_statement_fails_for_connections_that_the_server_has_closed(
    database: Database, other: Database
) -> None:
    """The pool opens new ones."""
    before = await backends(database)
    for pid in before:
        await other.fetch(TERMINATE, {"pid": pid})
    await asyncio.sleep(0.1)
    assert not before & await backends(database)


async def backends(database: Database) -> set[int]:
    """Return the server's processes that answer five statements at once."""
    answers = await asyncio.gather(*(database.fetch_prepared(BACKEND, {}) for _ in range(5)))
    return {rows[0][0] for rows in answers}
