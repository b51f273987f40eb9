"""Who reads from a standby, with another database in its place: it is empty, which shows where an answer is from.

The tests in tests/scale have a real standby, and load.
"""

import os
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import asyncpg
import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec import structs
from sqlalchemy import Integer, String, bindparam, cast, func, literal_column, make_url, select, text
from sqlalchemy.exc import DBAPIError

from app.__main__ import migrate
from app.auth import last_write
from app.auth.repository import SET_LAST_WRITE
from app.database import replicas
from app.database.driver import Rows, Statement
from app.database.engine import POSTGRESQL_SETTINGS
from app.database.replicas import Standby
from app.database.sessions import Database, Reading
from app.main import create_app
from app.settings import Settings
from tests.conftest import SERVER
from tests.factories import People, Statements, connect_to, create_item, on_postgresql, parts_of
from tests.problems import assert_problem

NOBODY = "postgresql://postgres@127.0.0.1:1/nothing"
NAME = select(literal_column("current_database()", String()))
SLEEP = select(cast(func.pg_sleep(bindparam("seconds", type_=Integer())), String))


@pytest.fixture
def replica_url(empty_postgresql_url: str) -> str:
    """A database that has the tables, and no rows."""
    migrate(empty_postgresql_url)
    return direct(empty_postgresql_url)


def direct(url: str) -> str:
    """The same database, by no pooler."""
    return make_url(os.environ[SERVER]).set(database=name_of(url)).render_as_string(hide_password=False)


def name_of(url: str) -> str:
    """The name of a database."""
    return make_url(url).database or ""


@pytest.fixture
def settings(settings: Settings, replica_url: str) -> Settings:
    """Those of a service that reads from there."""
    return structs.replace(settings, database_replica_urls=(replica_url,), metrics=True)


@pytest.fixture
def _as_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a standby has replayed: both databases are of one server, which isn't in recovery."""
    monkeypatch.setattr(replicas, "REPLAYED", replicas.WRITTEN)


@pytest.fixture
async def alice(app: Litestar, people: People, _as_complete: None) -> AsyncClient:
    """A client with an item, who has just written, while there is a standby to read from."""
    client = await people.sign_in("alice")
    await create_item(client)
    await parts_of(app).replicas.measure()
    return client


@pytest.fixture
async def standby(postgresql_url: str) -> AsyncIterator[Standby]:
    """One that nobody answers for, of a primary that answers."""
    primary = Database(direct(postgresql_url))
    standby = Standby(NOBODY, primary, pool_size=2)
    standby.complete_until = time.monotonic()
    yield standby
    await standby.close()
    await primary.close()


async def rest(app: Litestar) -> None:
    """Let all sessions have written a while ago."""
    database: Database = app.state.database
    async with database.transaction() as session:
        await session.execute(text("UPDATE sessions SET wrote_at = wrote_at - interval '5 seconds'"))


# Who reads where ------------------------------------------------------------------------------------------------------


@on_postgresql
async def test_who_has_not_written_lately_reads_from_the_standby(app: Litestar, alice: AsyncClient) -> None:
    """Items, one and many; anything else, and whoever else, is on the primary."""
    assert len((await alice.get("/items/")).json()) == 1
    await rest(app)
    assert (await alice.get("/items/")).json() == []
    assert (await alice.get("/items/?q=umbrella&count=true")).headers["X-Total-Count"] == "0"
    assert_problem(await alice.get("/items/1"), 404, "Item not found")
    assert (await alice.get("/users/me")).json()["username"] == "alice"
    assert (await alice.patch("/items/1", json={"title": "Hat"})).status_code == 200


@on_postgresql
@pytest.mark.usefixtures("_as_complete")
async def test_a_new_session_reads_from_the_primary(app: Litestar, people: People, alice: AsyncClient) -> None:
    """What another one of the same user wrote is there."""
    await rest(app)
    again = await people.sign_in_again((await alice.get("/users/me")).json()["id"])
    assert len((await again.get("/items/")).json()) == 1
    assert (await alice.get("/items/")).json() == []


@on_postgresql
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_who_writes_reads_from_the_primary(app: Litestar, alice: AsyncClient, method: str) -> None:
    """From the next request on, whatever became of the write."""
    await create_item(alice)
    await rest(app)
    if method == "POST":
        assert (await create_item(alice)).status_code == 201
    else:
        await alice.request(method, "/items/2", headers={"If-Match": '"7"'}, json={"title": ""})
    assert (await alice.get("/items/1")).status_code == 200


@on_postgresql
async def test_reads_leave_no_mark_and_writes_one_a_second(
    app: Litestar, alice: AsyncClient, statements: Statements
) -> None:
    """However many there are."""

    def marked() -> int:
        return len([statement for statement in statements if "SET wrote_at" in statement])

    await rest(app)
    statements.clear()
    for _ in range(3):
        await alice.get("/items/")
    assert marked() == 0
    for _ in range(3):
        await create_item(alice)
    assert marked() == 1


@on_postgresql
async def test_without_replicas_nothing_is_marked(settings: Settings) -> None:
    """A write is the one statement that it was."""
    app = create_app(structs.replace(settings, database_replica_urls=()))
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        await rest(app)
        with Statements.of(app) as statements:
            await create_item(alice)
        assert [statement.split()[0] for statement in statements] == ["SELECT", "INSERT"]


@on_postgresql
@pytest.mark.usefixtures("_as_complete")
async def test_a_page_from_the_standby_goes_on_where_one_from_the_primary_ended(settings: Settings) -> None:
    """A cursor is a place in the order, not in a database."""
    app = create_app(structs.replace(settings, database_replica_urls=(direct(settings.database_url),)))
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        for number in range(3):
            await create_item(alice, str(number))
        first = await alice.get("/items/?limit=2")
        await parts_of(app).replicas.measure()
        await rest(app)
        with Statements.of(app) as statements:
            second = await alice.get(first.links["next"]["url"])
        assert [item["title"] for item in first.json() + second.json()] == ["2", "1", "0"]
        assert len(statements) == 1  # the guard's


# The mark -------------------------------------------------------------------------------------------------------------


@on_postgresql
async def test_what_takes_long_is_marked_again_before_its_answer(
    alice: AsyncClient, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first mark would be older than a second when the client reads."""
    monkeypatch.setattr(last_write, "MAX_AGE", timedelta(0))
    await create_item(alice)
    assert [statement.split()[0] for statement in statements] == ["SELECT", "UPDATE", "INSERT", "UPDATE"]


@on_postgresql
async def test_what_cannot_be_marked_is_not_written(
    app: Litestar, alice: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may do it again."""
    monkeypatch.setitem(POSTGRESQL_SETTINGS, "lock_timeout", "200")
    database: Database = app.state.database
    await database.close()
    await rest(app)
    async with database.transaction() as session:
        await session.execute(text("LOCK TABLE sessions IN SHARE MODE"))
        assert_problem(await create_item(alice, "Hat"), 503)
    assert (await create_item(alice)).status_code == 201
    assert [item["title"] for item in (await alice.get("/items/")).json()] == ["Umbrella", "Umbrella"]


@on_postgresql
async def test_what_is_written_is_answered_though_its_second_mark_fails(
    app: Litestar, alice: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would have the client do it again."""
    monkeypatch.setattr(last_write, "MAX_AGE", timedelta(0))
    database: Database = app.state.database
    fetch, marked = database.fetch_prepared, []

    async def fail_later(statement: Statement, parameters: Mapping[str, object]) -> Rows:
        if statement is SET_LAST_WRITE:
            marked.append(statement)
            if len(marked) > 1:
                raise ConnectionResetError
        return await fetch(statement, parameters)

    monkeypatch.setattr(database, "fetch_prepared", fail_later)
    assert (await create_item(alice)).status_code == 201
    assert len(marked) == 2


# Standbys that fail ---------------------------------------------------------------------------------------------------


async def name_in(session: Reading) -> str:
    """Where a session reads."""
    name: str = (await session.execute(NAME)).scalar_one()
    return name


async def test_what_a_standby_fails_to_read_is_read_from_the_primary(standby: Standby, postgresql_url: str) -> None:
    """In each way that there is to read; and the standby is left out."""
    name = name_of(postgresql_url)
    assert tuple((await standby.fetch(NAME, {}))[0]) == (name,)
    assert tuple((await standby.fetch_prepared(NAME, {}))[0]) == (name,)
    assert await standby.in_session(name_in) == name
    assert standby.complete_until < 0


@pytest.mark.direct("about connections of the server's own")
async def test_what_takes_too_long_is_not_tried_again(
    postgresql_url: str, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take as long on the primary."""
    monkeypatch.setitem(POSTGRESQL_SETTINGS, "statement_timeout", "100")
    slow = Standby(direct(postgresql_url), standby.primary, pool_size=2)
    with pytest.raises(DBAPIError, match="statement timeout"):
        await slow.fetch_prepared(SLEEP, {"seconds": 2})
    await slow.close()


@pytest.mark.direct("about connections of the server's own")
@on_postgresql
async def test_a_standby_that_has_restarted_is_left_out_until_it_was_looked_at(
    app: Litestar, alice: AsyncClient, server: asyncpg.Connection, replica_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers before it has replayed what it had; the read that finds its connections closed isn't its own."""
    await rest(app)
    assert (await alice.get("/items/")).json() == []
    monkeypatch.setattr(parts_of(app).replicas, "measure", never)  # It would come too early.
    await server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name_of(replica_url)
    )
    for _ in range(3):
        assert len((await alice.get("/items/")).json()) == 1


async def never() -> None:
    """See nothing."""


@on_postgresql
async def test_who_is_no_standby_is_not_read_from(app: Litestar, people: People) -> None:
    """A primary by a wrong address, or one that a standby has become."""
    alice = await people.sign_in("alice")
    await create_item(alice)
    await rest(app)
    await parts_of(app).replicas.measure()
    assert len((await alice.get("/items/")).json()) == 1


@on_postgresql
async def test_a_standby_is_as_complete_as_what_it_has_replayed(app: Litestar, alice: AsyncClient) -> None:
    """Up to the last moment whose writes it has; none at all, and nobody asks it. The metrics say so."""
    found = parts_of(app).replicas
    (standby,) = found.standbys
    moment = time.monotonic()
    await standby.measure([(moment - 2, 0), (moment - 1, 2**62)])
    assert standby.complete_until == moment - 2
    assert found.is_ready(standby)
    await standby.measure([(moment - 3, 0), (moment - 1, 2**62)])
    assert not found.is_ready(standby)
    assert "} 0.0" in gauge(await alice.get("/metrics"))
    await found.measure()
    assert found.is_ready(standby)
    assert "} 1.0" in gauge(await alice.get("/metrics"))


def gauge(answer: Response) -> str:
    """The line of the standby."""
    lines = answer.text.splitlines()
    return next(line for line in lines if line.startswith("db_replica_ready{"))
