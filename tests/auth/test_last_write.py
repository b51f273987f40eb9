"""Sessions whose last write is noted, where there are replicas: the note is there before the write and its answer."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from httpx import AsyncClient
from msgspec import structs

from app.auth import last_write
from app.database.engine import POSTGRESQL_SETTINGS
from app.main import create_app
from app.settings import Settings
from tests.factories import People, Statements, connect_to, create_item, on_postgresql
from tests.problems import assert_problem

pytestmark = on_postgresql

NOBODY = "postgresql://postgres@127.0.0.1:1/nothing"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of a service with a replica, which doesn't answer."""
    return structs.replace(settings, database_replica_urls=(NOBODY,))


@pytest.fixture
async def alice(alice: AsyncClient) -> AsyncClient:
    """A client that has just written."""
    await create_item(alice)
    return alice


async def let_time_pass(connection: asyncpg.Connection) -> None:
    """Let every session have written five seconds earlier than it has."""
    await connection.execute("UPDATE sessions SET wrote_at = wrote_at - interval '5 seconds'")


def changes(statements: Statements) -> list[str]:
    """Return the first words of all statements that change rows."""
    return [statement.split()[0] for statement in statements if not statement.startswith("SELECT")]


async def test_reads_are_not_noted_and_writes_once_a_second(
    alice: AsyncClient, statements: Statements, cleaner: asyncpg.Connection
) -> None:
    await let_time_pass(cleaner)
    for _ in range(3):
        await alice.get("/items/")
    assert changes(statements) == []
    for _ in range(3):
        await create_item(alice)
    assert changes(statements) == ["UPDATE", "INSERT", "INSERT", "INSERT"]


async def test_without_replicas_no_write_is_noted(settings: Settings, cleaner: asyncpg.Connection) -> None:
    app = create_app(structs.replace(settings, database_replica_urls=()))
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        await let_time_pass(cleaner)
        with Statements.of(app) as statements:
            await create_item(alice)
        assert changes(statements) == ["INSERT"]


async def test_a_write_that_takes_long_is_noted_again_before_its_answer(
    alice: AsyncClient, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first note would be older than a second when the client reads."""
    monkeypatch.setattr(last_write, "MAX_AGE", timedelta(0))
    await create_item(alice)
    assert changes(statements) == ["UPDATE", "INSERT", "UPDATE"]


@pytest.fixture
def _short_lock_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out for locks that the test needn't wait long for."""
    monkeypatch.setitem(POSTGRESQL_SETTINGS, "lock_timeout", "200")


@pytest.mark.usefixtures("_short_lock_timeout")
async def test_a_write_that_cannot_be_noted_is_refused_and_not_done(
    alice: AsyncClient, cleaner: asyncpg.Connection
) -> None:
    await let_time_pass(cleaner)
    async with cleaner.transaction():
        await cleaner.execute("LOCK TABLE sessions IN SHARE MODE")
        assert_problem(await create_item(alice, "Hat"), 503)
    assert (await create_item(alice)).status_code == 201
    assert [item["title"] for item in (await alice.get("/items/")).json()] == ["Umbrella", "Umbrella"]


FAILING_NOTES = """
CREATE SEQUENCE notes;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('notes') > 1 THEN RAISE 'canary' USING ERRCODE = '53100'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail_sessions BEFORE UPDATE OF wrote_at ON sessions FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.fixture
async def _only_one_note(alice: AsyncClient, cleaner: asyncpg.Connection) -> AsyncIterator[None]:  # noqa: ARG001 - who has written
    """A database that takes one note from now on, and fails at the next ones."""
    await cleaner.execute(FAILING_NOTES)
    yield
    assert await cleaner.fetchval("SELECT last_value FROM notes") > 1
    await cleaner.execute("DROP FUNCTION fail CASCADE; DROP SEQUENCE notes")


@pytest.mark.usefixtures("_only_one_note")
async def test_a_write_that_was_done_is_answered_although_its_second_note_fails(
    alice: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would have the client write again."""
    monkeypatch.setattr(last_write, "MAX_AGE", timedelta(0))
    assert (await create_item(alice)).status_code == 201
