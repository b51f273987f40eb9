"""Statements that the driver runs itself: the same rows, errors and pool as SQLAlchemy's own way."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Integer,
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
from tests.factories import on_postgresql

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
    """A database without an application."""
    database = Database(database_url)
    yield database
    await database.close()


def borrowed(database: Database) -> int:
    """How many connections are out of the pool."""
    return database.engine.pool.checkedout()  # type: ignore[attr-defined,no-any-return]  # only some pools count


async def test_its_rows_are_those_of_sqlalchemy(database: Database) -> None:
    """By position, times in UTC with their zone."""
    statement = select(literal_column("1"), bindparam("at", type_=Job.run_at.type), bindparam("nothing", type_=None))
    parameters = {"at": AT, "nothing": None}
    (row,) = await database.fetch_prepared(statement, parameters)
    assert tuple(row) == tuple((await database.fetch(statement, parameters))[0])
    assert row[1] == AT


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
def test_what_sqlalchemy_does_more_for_is_left_to_it(database: Database, statement: Statement) -> None:
    """The driver would be given what it doesn't know, or give what the application doesn't."""
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
    """Of the kinds that the application tells apart, and its connection stays."""
    with pytest.raises(kind) as failure:
        await database.fetch_prepared(statement, parameters)
    assert app_error(failure.value).status == status
    assert not failure.value.connection_invalidated
    assert (borrowed(database), database.engine.pool.checkedin()) == (0, 1)  # type: ignore[attr-defined]  # as above


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_a_statement_that_is_broken_off_takes_its_connection_with_it(database: Database) -> None:
    """Nobody else gets one that may still be at work, and none is lost from the pool."""
    (before,) = await database.fetch_prepared(BACKEND, {})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await database.fetch_prepared(SLEEP, {})
    assert borrowed(database) == 0
    (after,) = await database.fetch_prepared(BACKEND, {})
    assert before[0] != after[0]


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_a_connection_that_ends_under_a_statement_is_an_outage(database: Database) -> None:
    """And none of the pool."""
    waiting = asyncio.create_task(database.fetch_prepared(SLEEP, {}))
    other = Database(database.engine.url.render_as_string(hide_password=False))
    rows: Rows = []
    while not rows:
        rows = await other.fetch(SLEEPER, {})
    await other.fetch(TERMINATE, {"pid": rows[0][0]})
    with pytest.raises(DBAPIError) as failure:
        await waiting
    assert failure.value.connection_invalidated
    assert app_error(failure.value).status == 503
    assert borrowed(database) == 0
    await other.close()


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_connections_that_the_server_has_closed_are_not_used(database: Database) -> None:
    """The pool opens new ones, and no statement fails for them."""
    pids = await asyncio.gather(*(database.fetch_prepared(BACKEND, {}) for _ in range(5)))
    other = Database(database.engine.url.render_as_string(hide_password=False))
    for (pid,) in {tuple(rows[0]) for rows in pids}:
        await other.fetch(TERMINATE, {"pid": pid})
    await other.close()
    await asyncio.sleep(0.1)
    after = await asyncio.gather(*(database.fetch_prepared(BACKEND, {}) for _ in range(5)))
    assert not {tuple(rows[0]) for rows in pids} & {tuple(rows[0]) for rows in after}
