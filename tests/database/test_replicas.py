"""Reads from a standby, with an empty database in its place, which shows where an answer is from.

The tests in tests/scale have a real standby, and load.
"""

import os
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
from httpx import AsyncClient, Response
from msgspec import structs
from sqlalchemy import Integer, String, bindparam, cast, func, literal_column, make_url, select, text
from sqlalchemy.exc import DBAPIError

from app.database.engine import POSTGRESQL_SETTINGS
from app.database.replicas import WRITTEN, Standby
from app.database.sessions import Reading
from app.http.feature import Parts
from app.main import create_app
from app.operations.migrations import migrate
from app.settings import Settings
from tests.conftest import SERVER, create_database, database_address, drop_database
from tests.factories import People, Statements, connect_to, create_item, on_postgresql, open_database, parts_of
from tests.problems import assert_problem

NOBODY = "postgresql://postgres@127.0.0.1:1/nothing"
NAME = select(literal_column("current_database()", String()))
SLEEP = select(cast(func.pg_sleep(bindparam("seconds", type_=Integer())), String))


@pytest.fixture(scope="module")
async def replica_database(server: asyncpg.Connection) -> AsyncIterator[str]:
    """A database in the place of a standby, for all tests of this file, since they don't write to it."""
    name = await create_database(server)
    yield direct(database_address(name))
    await drop_database(server, name)


@pytest.fixture(scope="module")
def replica_url(replica_database: str) -> str:
    """The same, with tables that have no rows; outside of the event loop, since migrations run in their own."""
    migrate(replica_database)
    return replica_database


def direct(url: str) -> str:
    """Return the URL of the same database without a pooler."""
    return make_url(os.environ[SERVER]).set(database=name_of(url)).render_as_string(hide_password=False)


def name_of(url: str) -> str:
    """Return the name of a URL's database."""
    return make_url(url).database or ""


@pytest.fixture
def settings(settings: Settings, replica_url: str) -> Settings:
    """The settings of a service that reads from the empty database."""
    return structs.replace(settings, database_replica_urls=(replica_url,), metrics=True)


@pytest.fixture
def _complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby that has replayed everything; this one is of the primary's own server, which isn't in recovery."""
    monkeypatch.setattr("app.database.replicas.REPLAYED", WRITTEN)


@pytest.fixture
async def alice(alice: AsyncClient, parts: Parts, _complete: None) -> AsyncClient:
    """A client with an item, which has just written, while a standby is ready to be read from."""
    await create_item(alice)
    await parts.replicas.measure()
    return alice


@pytest.fixture
async def standby(postgresql_url: str) -> AsyncIterator[Standby]:
    """A standby that doesn't answer, of a primary that does."""
    async with open_database(direct(postgresql_url)) as primary:
        standby = Standby(NOBODY, primary, pool_size=2)
        standby.complete_until = time.monotonic()
        yield standby
        await standby.close()


async def let_time_pass(parts: Parts) -> None:
    """Let every session have written five seconds earlier than it has."""
    async with parts.database.transaction() as transaction:
        await transaction.execute(text("UPDATE sessions SET wrote_at = wrote_at - interval '5 seconds'"))


# Where a session reads ------------------------------------------------------------------------------------------------


@on_postgresql
async def test_a_session_that_has_not_written_lately_reads_items_from_the_standby(
    parts: Parts, alice: AsyncClient
) -> None:
    """Everything else is read from the primary."""
    assert len((await alice.get("/items/")).json()) == 1
    await let_time_pass(parts)
    assert (await alice.get("/items/")).json() == []
    assert (await alice.get("/items/?q=umbrella&count=true")).headers["X-Total-Count"] == "0"
    assert_problem(await alice.get("/items/1"), 404, "Item not found")
    assert (await alice.get("/users/me")).json()["username"] == "alice"
    assert (await alice.patch("/items/1", json={"title": "Hat"})).status_code == 200


@on_postgresql
@pytest.mark.usefixtures("_complete")
async def test_a_new_session_reads_from_the_primary(parts: Parts, people: People, alice: AsyncClient) -> None:
    """It finds what another session of the same user has written before."""
    await let_time_pass(parts)
    again = await people.sign_in_again((await alice.get("/users/me")).json()["id"])
    assert len((await again.get("/items/")).json()) == 1
    assert (await alice.get("/items/")).json() == []


@on_postgresql
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_a_session_that_has_tried_to_write_reads_from_the_primary(
    parts: Parts, alice: AsyncClient, method: str
) -> None:
    await create_item(alice)
    await let_time_pass(parts)
    if method == "POST":
        assert (await create_item(alice)).status_code == 201
    else:
        await alice.request(method, "/items/2", headers={"If-Match": '"7"'}, json={"title": ""})
    assert (await alice.get("/items/1")).status_code == 200


@on_postgresql
@pytest.mark.usefixtures("_complete")
async def test_a_page_from_the_standby_goes_on_where_one_from_the_primary_ended(settings: Settings) -> None:
    """A cursor is a place in the order, not in a database."""
    app = create_app(structs.replace(settings, database_replica_urls=(direct(settings.database_url),)))
    parts = parts_of(app)
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        for number in range(3):
            await create_item(alice, str(number))
        first = await alice.get("/items/?limit=2")
        await parts.replicas.measure()
        await let_time_pass(parts)
        with Statements.of(app) as statements:
            second = await alice.get(first.links["next"]["url"])
        assert [item["title"] for item in first.json() + second.json()] == ["2", "1", "0"]
        assert not any("FROM items" in statement for statement in statements)  # on the primary


# Standbys that fail ---------------------------------------------------------------------------------------------------


async def name_in(session: Reading) -> str:
    """Return the name of the database that a session reads from."""
    name: str = (await session.execute(NAME)).scalar_one()
    return name


async def test_what_a_standby_fails_to_read_is_read_from_the_primary(standby: Standby, postgresql_url: str) -> None:
    """All three ways to read do so, and the standby is left out."""
    name = name_of(postgresql_url)
    assert tuple((await standby.fetch(NAME, {}))[0]) == (name,)
    assert tuple((await standby.fetch_prepared(NAME, {}))[0]) == (name,)
    assert await standby.in_session(name_in) == name
    assert standby.complete_until < 0


@pytest.mark.direct("about connections of the server's own")
async def test_a_read_that_takes_too_long_is_not_tried_again(
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
async def test_a_standby_that_has_restarted_is_left_out_until_it_is_measured(
    parts: Parts, alice: AsyncClient, server: asyncpg.Connection, replica_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers before it has replayed what it had; the read that finds its connections closed isn't its own."""
    await let_time_pass(parts)
    assert (await alice.get("/items/")).json() == []
    monkeypatch.setattr(parts.replicas, "measure", never)  # It would come too early.
    await server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name_of(replica_url)
    )
    for _ in range(3):
        assert len((await alice.get("/items/")).json()) == 1


async def never() -> None:
    """Measure nothing."""


@on_postgresql
async def test_a_primary_is_not_read_from_as_a_standby(parts: Parts, people: People) -> None:
    """Its address may be wrong, or it was a standby before."""
    alice = await people.sign_in("alice")
    await create_item(alice)
    await let_time_pass(parts)
    await parts.replicas.measure()
    assert len((await alice.get("/items/")).json()) == 1


@on_postgresql
async def test_a_standby_is_as_complete_as_what_it_has_replayed(parts: Parts, alice: AsyncClient) -> None:
    """It is ready while it has replayed the writes of the last seconds, and the metrics say whether it is."""
    replicas = parts.replicas
    (standby,) = replicas.standbys
    moment = time.monotonic()
    await standby.measure([(moment - 2, 0), (moment - 1, 2**62)])
    assert standby.complete_until == moment - 2
    assert replicas.is_ready(standby)
    await standby.measure([(moment - 3, 0), (moment - 1, 2**62)])
    assert not replicas.is_ready(standby)
    assert "} 0.0" in gauge(await alice.get("/metrics"))
    await replicas.measure()
    assert replicas.is_ready(standby)
    assert "} 1.0" in gauge(await alice.get("/metrics"))


def gauge(answer: Response) -> str:
    """Return the line of the standby."""
    lines = answer.text.splitlines()
    return next(line for line in lines if line.startswith("db_replica_ready{"))
