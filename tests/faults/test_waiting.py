"""The database is locked, slow or silent: no client waits for long, and the connections come back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from httpx import AsyncClient, Response

from tests.factories import create_item
from tests.faults.production import ANSWER_WITHIN_SECONDS, Record, connected, execute, production, signed_in
from tests.postgresql import Server
from tests.problems import assert_problem

pytestmark = pytest.mark.faults

POOL = 20
SLOW_INSERT = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NEW; END $$;
CREATE TRIGGER slow_items BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION wait();
"""
OURS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'backend-api'"


@pytest.fixture
async def client(empty_postgresql_url: str, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """A signed-in client of the service."""
    with production(tmp_path, empty_postgresql_url) as (url, _):
        async with signed_in(url) as client:
            yield client


class Stopwatch:
    """The longest time that an answer took."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def time(self, answer: Awaitable[Response]) -> Response:
        """Measure the time until an answer comes, and return the answer."""
        started = monotonic()
        result = await answer
        self.longest = max(self.longest, monotonic() - started)
        return result


@asynccontextmanager
async def locked(database_url: str, table: str) -> AsyncIterator[None]:
    """Hold a table's lock, as a careless migration would."""
    async with connected(database_url) as database, database.transaction():
        await database.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def assert_connections_are_back(database_url: str) -> None:
    """Assert that no connection of the service is in use, and that there are no more than its pool has."""
    async with connected(database_url) as database:
        states = [row["state"] for row in await database.fetch(f"SELECT state {OURS}")]
    assert set(states) <= {"idle"}
    assert len(states) <= POOL


async def test_a_locked_table_stops_nobody_who_does_not_need_it(
    client: AsyncClient, empty_postgresql_url: str, record_property: Record
) -> None:
    """Requests that read or write the table get a 503 within five seconds."""
    watch, others = Stopwatch(), Stopwatch()
    async with locked(empty_postgresql_url, "items"):
        stopped = [asyncio.create_task(watch.time(create_item(client))) for _ in range(4)]
        stopped.append(asyncio.create_task(watch.time(client.get("/items/"))))
        while not all(task.done() for task in stopped):
            for path in ("/health/live", "/health/ready", "/users/me"):
                assert (await others.time(client.get(path))).status_code == 200
            await asyncio.sleep(0.1)
        for task in stopped:
            assert_problem(await task, 503)
    assert (await create_item(client)).status_code == 201
    await assert_connections_are_back(empty_postgresql_url)
    record_property("longest answer in seconds", round(watch.longest, 1))
    record_property("longest of the other routes", round(others.longest, 2))
    assert watch.longest < ANSWER_WITHIN_SECONDS
    assert others.longest < 1


@pytest.mark.parametrize("fault", ["lock", "slow query"])
async def test_when_all_connections_hang_nobody_waits_for_long(
    client: AsyncClient, empty_postgresql_url: str, record_property: Record, fault: str
) -> None:
    """Of four times as many requests as connections, each gets a 503 within five seconds; later ones are served."""
    watch, live = Stopwatch(), Stopwatch()

    async def flood() -> None:
        tasks = [asyncio.create_task(watch.time(create_item(client))) for _ in range(4 * POOL)]
        while not all(task.done() for task in tasks):
            assert (await live.time(client.get("/health/live"))).status_code == 200
            await asyncio.sleep(0.1)
        for task in tasks:
            assert_problem(await task, 503)

    if fault == "lock":
        async with locked(empty_postgresql_url, "items"):
            await flood()
    else:
        await execute(empty_postgresql_url, SLOW_INSERT)
        await flood()
        await execute(empty_postgresql_url, "DROP TRIGGER slow_items ON items")
    answers = await asyncio.gather(*(create_item(client) for _ in range(2 * POOL)))
    assert {answer.status_code for answer in answers} == {201}
    assert len((await client.get("/items/")).json()) == 2 * POOL
    await assert_connections_are_back(empty_postgresql_url)
    record_property("longest answer in seconds", round(watch.longest, 1))
    record_property("longest of live", round(live.longest, 2))
    assert watch.longest < ANSWER_WITHIN_SECONDS
    assert live.longest < 1


async def test_a_server_that_falls_silent_is_given_up(
    crashable: Server, tmp_path: Path, record_property: Record
) -> None:
    """Its connections stay open, as behind a network that is gone; once it answers again, all is served."""
    watch = Stopwatch()
    with production(tmp_path, crashable.url) as (url, _):
        async with signed_in(url) as client:
            async with connected(crashable.url) as database:
                stopped = [row["pid"] for row in await database.fetch(f"SELECT pid {OURS}")]
            stopped.append(crashable.pid)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                ready = await watch.time(client.get("/health/ready"))
                ready_after = watch.longest
                requests = (watch.time(create_item(client)) for _ in range(2 * POOL))
                answers = await asyncio.gather(*requests)
                assert (await client.get("/health/live")).status_code == 200
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
            assert_problem(ready, 503, "The database does not answer")
            for answer in answers:
                assert_problem(answer, 503)
            assert (await create_item(client)).status_code == 201
    await assert_connections_are_back(crashable.url)
    record_property("longest answer in seconds", round(watch.longest, 1))
    record_property("not ready after seconds", round(ready_after, 1))
    assert ready_after < 3
    assert watch.longest < ANSWER_WITHIN_SECONDS


async def test_a_deadlock_costs_the_client_a_second_and_nothing_else(
    client: AsyncClient, empty_postgresql_url: str, record_property: Record
) -> None:
    """PostgreSQL ends the service's transaction, which is done again when the other one has committed."""
    keyed = {"Idempotency-Key": "again"}
    first = await client.post("/items/", json={"title": "first"}, headers=keyed)
    assert first.status_code == 201
    watch = Stopwatch()
    async with connected(empty_postgresql_url) as other:
        # A key that is too old is taken over: its row is locked before the user's is, and here in the other order.
        await other.execute("UPDATE idempotency_keys SET created_at = created_at - interval '2 days'")
        async with other.transaction():
            await other.execute("SELECT * FROM users FOR UPDATE")
            again = asyncio.create_task(watch.time(client.post("/items/", json={"title": "first"}, headers=keyed)))
            await asyncio.sleep(0.3)
            await other.execute("DELETE FROM idempotency_keys")
        assert (await again).status_code == 201
    assert [item["id"] for item in (await client.get("/items/")).json()] == [
        (await again).json()["id"],
        first.json()["id"],
    ]
    record_property("longest answer in seconds", round(watch.longest, 1))
    assert watch.longest > 0.9  # the time that PostgreSQL lets pass before it looks for a deadlock
