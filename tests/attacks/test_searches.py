"""Attacks by searches: one user asks for what costs the database the most, again and again and at once."""

import asyncio

import pytest
from httpx import AsyncClient

from app.database import repository, turns
from app.database.sessions import Database, Reading
from app.database.turns import Turns
from app.errors import Unavailable
from tests.factories import create_item
from tests.problems import assert_problem

TOO_MANY = "Too many searches and counts at once; try again"
COUNTED = {"q": "umbrella", "count": "true"}


class Slow:
    """Searches that don't end before they may: the first two, which are one user's turns."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    async def __call__(self, _session: Reading) -> None:
        self.begun += 1
        if self.begun <= 2:
            await self.may_end.wait()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """Searches that take long, and clients who don't wait for a turn."""
    searches = Slow()
    monkeypatch.setattr(repository, "plan_for_values", searches)
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.1)
    return searches


async def test_forty_searches_of_one_user_leave_the_connections_to_others(
    alice: AsyncClient, bob: AsyncClient, slow: Slow
) -> None:
    """Two are at work; the others are told to try again, and so is a count. Other lists and users are served."""
    await create_item(alice)
    await create_item(bob)
    searches = [asyncio.create_task(alice.get("/items/", params=COUNTED)) for _ in range(40)]
    async with asyncio.timeout(30):
        while sum(search.done() for search in searches) < 38:
            await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
    for search in searches:
        if search.done():
            assert_problem(search.result(), 503, TOO_MANY)
            assert search.result().headers["Retry-After"] == "1"
    assert_problem(await alice.get("/items/", params={"count": "true"}), 503, TOO_MANY)
    assert (await alice.get("/items/")).status_code == 200
    answer = await bob.get("/items/", params=COUNTED)
    assert (answer.status_code, answer.headers["X-Total-Count"]) == (200, "1")
    slow.may_end.set()
    answers = await asyncio.gather(*searches)
    assert [answer.status_code for answer in answers].count(200) == 2
    assert (await alice.get("/items/", params=COUNTED)).status_code == 200


async def test_whoever_waits_for_a_turn_gets_one(alice: AsyncClient) -> None:
    await create_item(alice)
    answers = await asyncio.gather(*(alice.get("/items/", params=COUNTED) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}


async def test_costly_reads_of_all_users_leave_half_of_the_connections(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database.turns.all._value == 10  # noqa: SLF001 - of the pool's twenty
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.05)
    all_turns, may_end = Turns(3, "searches"), asyncio.Event()

    async def work(user_id: int) -> None:
        async with all_turns.turn(user_id):
            await may_end.wait()

    tasks = [asyncio.create_task(work(user_id)) for user_id in range(5)]
    done, pending = await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_EXCEPTION)
    while len(done) < 2:
        more, pending = await asyncio.wait(pending, timeout=10, return_when=asyncio.FIRST_EXCEPTION)
        done |= more
    assert all(isinstance(task.exception(), Unavailable) for task in done)
    may_end.set()
    await asyncio.gather(*pending)
    assert (all_turns.asking, all_turns.of_users) == ({}, {})
