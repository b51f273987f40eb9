"""SQLite under several processes, and while another program holds its lock."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from time import monotonic

import pytest
from httpx import AsyncClient, Response

from tests.factories import create_item
from tests.faults.production import Record, production, signed_in
from tests.problems import assert_problem

pytestmark = pytest.mark.faults

ROUNDS = 60
BUSY_TIMEOUT_SECONDS = 5


async def increment(client: AsyncClient, path: str) -> int:
    """Add one to the number in an item's title; return how often another client came first."""
    for conflicts in range(1000):
        read = await client.get(path)
        headers = {"If-Match": read.headers["ETag"]}
        changed = await client.patch(path, json={"title": str(int(read.json()["title"]) + 1)}, headers=headers)
        if changed.status_code == 200:
            return conflicts
        assert_problem(changed, 412)
    raise AssertionError("Another client always came first")


async def test_three_processes_that_read_modify_and_write_lose_no_update(
    tmp_path: Path, record_property: Record
) -> None:
    """Two clients of each process add to one number, and every addition is in the sum."""
    database_url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    with ExitStack() as programs:
        urls = [
            programs.enter_context(
                # One issuer, so that a token is good at each of them.
                production(tmp_path / str(number), database_url, PUBLIC_URL="https://api.example.org")
            )[0]
            for number in range(3)
        ]
        async with AsyncExitStack() as clients:
            first = await clients.enter_async_context(signed_in(urls[0]))
            others = [AsyncClient(base_url=url, headers=first.headers, timeout=30) for url in urls[1:]]
            everyone = [first, *(await asyncio.gather(*(map(clients.enter_async_context, others))))]
            path = (await create_item(first, "0")).headers["Location"]

            async def count_up(client: AsyncClient) -> int:
                return sum([await increment(client, path) for _ in range(ROUNDS)])

            conflicts = await asyncio.gather(*(count_up(client) for client in everyone * 2))
            assert (await first.get(path)).json()["title"] == str(6 * ROUNDS)
    record_property("updates", 6 * ROUNDS)
    record_property("conflicts told", sum(conflicts))
    record_property("lost", 0)
    assert sum(conflicts) > 0


async def test_a_lock_that_is_held_for_seven_seconds(tmp_path: Path, record_property: Record) -> None:
    """A writer gets a 503 after the busy time-out; readers notice nothing, and the next writer succeeds."""
    file = tmp_path / "locked.sqlite3"
    with production(tmp_path, f"sqlite:///{file}") as (url, _):
        async with signed_in(url) as client:
            with closing(sqlite3.connect(file, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                started = monotonic()
                refused = asyncio.create_task(create_item(client, "refused"))
                late = asyncio.create_task(create_item_after(client, 3, "late"))
                while not refused.done():
                    assert (await client.get("/items/")).json() == []
                    assert (await client.get("/health/live")).status_code == 200
                    await asyncio.sleep(0.1)
                waited = monotonic() - started
                assert_problem(await refused, 503)
                await asyncio.sleep(7 - waited)
                other.execute("ROLLBACK")
            # This request came while the lock was held, and got it within its own time-out.
            assert (await late).status_code == 201
            assert (await create_item(client, "next")).status_code == 201
            assert [item["title"] for item in (await client.get("/items/")).json()] == ["next", "late"]
    record_property("503 after seconds", round(waited, 1))
    assert BUSY_TIMEOUT_SECONDS - 0.5 < waited < BUSY_TIMEOUT_SECONDS + 1.5


async def create_item_after(client: AsyncClient, seconds: float, title: str) -> Response:
    """Create an item some seconds later; return the answer."""
    await asyncio.sleep(seconds)
    return await create_item(client, title)
