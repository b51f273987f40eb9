"""Transactions: they commit before the answer, roll back whole, lose no update, and outlive a deadlock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import text

from app.database.sessions import Database
from app.main import create_app
from app.settings import Settings
from app.users.models import User
from tests.factories import (
    PASSWORD,
    People,
    add_user,
    connect_to,
    create_item,
    log_in,
    on_postgresql,
    on_sqlite,
    open_database,
    register,
)
from tests.problems import assert_problem

AWAY = "The service is temporarily unavailable; try again"
Call = Callable[[AsyncClient], Awaitable[Response]]
Deadlock = Callable[[int, str], Awaitable[str]]


async def count_users(database: Database) -> int:
    """Return the number of users."""
    async with database.reading() as session:
        return await session.scalar(text("SELECT count(*) FROM users")) or 0


# Commits --------------------------------------------------------------------------------------------------------------

# Each trigger makes a transaction that writes to a table fail, but not before its commit.
FAILING_COMMITS = {
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
WORKING_COMMITS = {
    "sqlite": ["DROP TRIGGER break_users", "DROP TRIGGER break_items"],
    "postgresql": ["DROP FUNCTION fail CASCADE"],
}


@asynccontextmanager
async def failing_commits(database: Database) -> AsyncIterator[None]:
    """Let no transaction commit that adds a user or an item."""
    kind = database.engine.dialect.name
    await execute(database, FAILING_COMMITS[kind])
    try:
        yield
    finally:
        await execute(database, WORKING_COMMITS[kind])


async def execute(database: Database, statements: Sequence[str]) -> None:
    """Run statements in one transaction."""
    async with database.transaction() as transaction:
        for statement in statements:
            await transaction.execute(text(statement))


@pytest.mark.parametrize("write", [lambda client: register(client, "bob"), create_item], ids=["register", "item"])
async def test_a_commit_that_fails_is_an_error_and_leaves_nothing(
    alice: AsyncClient, database: Database, write: Call
) -> None:
    """It is never a 201, and no later request on the same connection commits the rest of it."""
    async with failing_commits(database):
        for _ in range(22):  # more often than the pool has connections
            assert_problem(await write(alice), {"sqlite": 409, "postgresql": 503}[database.engine.dialect.name])
    assert (await alice.get("/items/")).json() == []
    assert (await write(alice)).status_code == 201
    rows = [len((await alice.get("/items/")).json()), await count_users(database) - 1]
    assert sorted(rows) == [0, 1]


async def test_an_error_after_a_write_rolls_it_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        await fail_after_writing(database)
    assert await count_users(database) == 0


async def fail_after_writing(database: Database) -> None:
    """Write a row, and raise an error in the same transaction."""
    async with database.transaction() as transaction:
        transaction.add(User(username="a", username_key="a", email="a", email_key="a", hashed_password="x"))
        await transaction.flush()
        raise ZeroDivisionError


@on_sqlite
async def test_a_transaction_that_reads_before_it_writes_loses_no_update(
    app: Litestar, database: Database, database_url: str
) -> None:
    """Of two services on one file neither does: a transaction takes the write lock when it begins."""
    alice = await add_user(app, "alice", email="0")

    async def add_one(database: Database) -> None:
        async with database.transaction() as transaction:
            user = await transaction.get_one(User, alice.id)
            user.email = str(int(user.email) + 1)

    async with open_database(database_url) as other:
        await asyncio.gather(*(add_one(either) for either in (database, other) for _ in range(30)))
    async with database.reading() as session:
        assert (await session.get_one(User, alice.id)).email == "60"


async def test_many_requests_at_once_share_the_connections(settings: Settings) -> None:
    """No request holds a connection while it waits for another one."""
    app = create_app(msgspec.structs.replace(settings, database_pool_size=4))
    connections = 4 if settings.on_postgresql else 15
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        answers = await asyncio.gather(*(create_item(alice, str(number)) for number in range(4 * connections)))
    assert {answer.status_code for answer in answers} == {201}


# Deadlocks ------------------------------------------------------------------------------------------------------------

# A sequence counts on although the transaction is rolled back.
DEADLOCKS = """
CREATE SEQUENCE attempts;
CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('attempts') <= {times} THEN RAISE 'canary' USING ERRCODE = '{state}'; END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER deadlock_items BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION deadlock();
CREATE TRIGGER deadlock_users BEFORE UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION deadlock();
CREATE TRIGGER deadlock_sessions BEFORE INSERT OR DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION deadlock();
"""
NO_DEADLOCKS = "DROP FUNCTION IF EXISTS deadlock CASCADE; DROP SEQUENCE IF EXISTS attempts"
PASSWORDS = {"current_password": PASSWORD, "new_password": "another correct horse"}


@pytest.fixture
async def deadlock(cleaner: asyncpg.Connection) -> AsyncIterator[Deadlock]:
    """Makes the database roll back the next transactions, so many times."""
    yield lambda times, state: cleaner.execute(DEADLOCKS.format(times=times, state=state))
    await cleaner.execute(NO_DEADLOCKS)


@on_postgresql
@pytest.mark.parametrize("state", ["40P01", "40001"])
@pytest.mark.parametrize(
    ("call", "status"),
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
    alice: AsyncClient, deadlock: Deadlock, call: Call, state: str, status: int
) -> None:
    await deadlock(1, state)
    assert (await call(alice)).status_code == status


@on_postgresql
async def test_what_deadlocks_twice_is_503(alice: AsyncClient, deadlock: Deadlock) -> None:
    await deadlock(2, "40P01")
    assert_problem(await create_item(alice), 503, AWAY)
    assert (await alice.get("/items/")).json() == []
    assert (await create_item(alice)).status_code == 201
