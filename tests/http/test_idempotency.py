"""The header Idempotency-Key, as the creation of items takes it."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import func, select, update

from app.database.engine import POSTGRESQL_SETTINGS
from app.database.models import now
from app.database.sessions import Database
from app.errors import Conflict
from app.http.idempotency.models import StoredAnswer
from app.http.idempotency.repository import AnswerRepository
from app.items.service import ItemService
from app.main import create_app
from app.settings import Settings
from tests.factories import People, Statements, client_of, connect_to, on_postgresql
from tests.problems import assert_problem, pointers

BODY = {"title": "Umbrella", "description": "Black"}
KEY = "5c0ad4be-0c0f-4a6c-9d5a-1f2f0a2a6a11"
IN_PROGRESS = "A request with this Idempotency-Key is still in progress"


async def create(client: AsyncClient, body: object = BODY, *, key: str = KEY, path: str = "/items/") -> Response:
    """Create an item with a key and return the answer."""
    return await client.post(path, json=body, headers={"Idempotency-Key": key})


async def titles(client: AsyncClient) -> list[str]:
    """Return the titles of the caller's items."""
    return [item["title"] for item in (await client.get("/items/")).json()]


async def age_answers(database: Database, age: timedelta) -> None:
    """Make the stored answers older than they are."""
    async with database.transaction() as transaction:
        await transaction.execute(update(StoredAnswer).values(created_at=now() - age))


async def count_answers(database: Database) -> int:
    """Return how many answers are stored."""
    rows = await database.fetch(select(func.count()).select_from(StoredAnswer), {})
    return rows[0][0]


async def test_a_repeat_is_answered_as_at_first(alice: AsyncClient) -> None:
    """Status, body, address and tag are those of the first answer, even when the item has changed or gone since."""
    first = await create(alice)
    assert first.status_code == 201
    await alice.patch(first.headers["Location"], json={"title": "Parasol"})
    for _ in range(2):
        again = await create(alice)
        assert (again.status_code, again.content) == (201, first.content)
        for name in ("Location", "ETag", "Content-Type", "Content-Length", "Cache-Control"):
            assert again.headers[name] == first.headers[name]
        await alice.delete(first.headers["Location"])
    assert await titles(alice) == []


@pytest.mark.parametrize(
    "body", ['{"description":"Black","title":"Umbrella"}', ' {"title" : "Umbrell\\u0061", "description": "Black"}']
)
async def test_the_same_body_may_be_written_differently(alice: AsyncClient, body: str) -> None:
    """The path may be written with or without its slash, too."""
    first = await create(alice)
    headers = {"Idempotency-Key": KEY, "Content-Type": "application/json"}
    assert (await alice.post("/items", content=body, headers=headers)).content == first.content


@pytest.mark.parametrize("body", [{"title": "Umbrella"}, {"title": "umbrella", "description": "Black"}])
async def test_another_body_with_the_key_is_422(alice: AsyncClient, body: dict[str, str]) -> None:
    """The first answer still stands."""
    first = await create(alice)
    assert pointers(await create(alice, body)) == ["/Idempotency-Key"]
    assert (await create(alice)).content == first.content
    assert await titles(alice) == ["Umbrella"]


async def test_a_key_is_its_users_own(alice: AsyncClient, bob: AsyncClient) -> None:
    """Another user's request with the key is another request."""
    answers = [await create(alice), await create(bob)]
    assert [answer.json()["owner_id"] for answer in answers] == [1, 2]


async def test_other_keys_and_none_create_anew(alice: AsyncClient) -> None:
    """Keys are compared as they are written."""
    for key in (KEY, KEY.upper(), f"{KEY}2", "x" * 255, '"quoted"'):
        assert (await create(alice, key=key)).status_code == 201
    for _ in range(2):
        assert (await alice.post("/items/", json=BODY)).status_code == 201
    assert len(await titles(alice)) == 7


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_that_is_empty_or_too_long_is_422(alice: AsyncClient, key: str) -> None:
    """Nothing is created."""
    assert pointers(await create(alice, key=key)) == ["/Idempotency-Key"]
    assert await titles(alice) == []


async def test_of_repeats_sent_at_once_one_creates(alice: AsyncClient) -> None:
    """The others wait for its answer."""
    answers = await asyncio.gather(*(create(alice) for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {201: 8}
    assert len({answer.content for answer in answers}) == 1
    assert await titles(alice) == ["Umbrella"]


async def test_of_different_bodies_sent_at_once_one_creates(alice: AsyncClient) -> None:
    answers = await asyncio.gather(*(create(alice, {"title": f"Umbrella {number}"}) for number in range(8)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 422: 7}
    assert len(await titles(alice)) == 1


async def test_an_error_is_not_kept(alice: AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is free again after an error, be it one before the work or one in it."""
    assert (await create(alice, {"title": ""})).status_code == 422

    async def refuse(*_: object) -> None:
        raise Conflict

    with monkeypatch.context() as patch:
        patch.setattr(ItemService, "create", refuse)
        assert (await create(alice)).status_code == 409
    assert await count_answers(database) == 0
    assert (await create(alice)).status_code == 201


async def test_the_answer_and_the_item_commit_together(
    alice: AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the answer can't be stored, there is no item."""

    async def fail(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(AnswerRepository, "store", fail)
        assert_problem(await create(alice), 503)
    assert (await titles(alice), await count_answers(database)) == ([], 0)


async def test_a_key_counts_for_a_day(alice: AsyncClient, database: Database) -> None:
    """A key that is older is as if it had never been sent, even before the answers are purged."""
    first = await create(alice)
    await age_answers(database, timedelta(hours=23, minutes=59))
    assert (await create(alice)).content == first.content
    await age_answers(database, timedelta(hours=24, minutes=1))
    second = await create(alice, {"title": "Parasol"})
    assert second.status_code == 201
    assert (await create(alice, {"title": "Parasol"})).content == second.content
    assert await titles(alice) == ["Parasol", "Umbrella"]


async def test_only_old_answers_are_purged(alice: AsyncClient, database: Database) -> None:
    await create(alice)
    await age_answers(database, timedelta(hours=25))
    await create(alice, key="another")
    answers = AnswerRepository(database)
    assert await answers.purge() == 1
    assert await answers.purge() == 0
    assert await count_answers(database) == 1


async def test_a_request_without_a_key_costs_nothing_more(alice: AsyncClient, statements: Statements) -> None:
    """A request with a key takes two statements more, and a repeat takes two."""
    for headers, expected in (
        ({}, ["SELECT", "INSERT"]),
        ({"Idempotency-Key": KEY}, ["SELECT", "INSERT", "INSERT", "UPDATE"]),
        ({"Idempotency-Key": KEY}, ["SELECT", "INSERT", "SELECT"]),
    ):
        statements.clear()
        assert (await alice.post("/items/", json=BODY, headers=headers)).status_code == 201
        verbs = [statement.split()[0] for statement in statements]
        assert [verb for verb in verbs if verb not in {"BEGIN", "COMMIT"}] == expected


@on_postgresql
async def test_a_repeat_that_waits_too_long_is_409(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request is still at work."""
    monkeypatch.setitem(POSTGRESQL_SETTINGS, "lock_timeout", "200")
    app = create_app(settings)
    at_work, finish = asyncio.Event(), asyncio.Event()
    work = ItemService.create

    async def work_slowly(*args: object) -> object:
        at_work.set()
        await finish.wait()
        return await work(*args)  # type: ignore[arg-type] # passed on as they came

    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        monkeypatch.setattr(ItemService, "create", work_slowly)
        first = asyncio.create_task(create(alice))
        await at_work.wait()
        assert_problem(await create(alice), 409, IN_PROGRESS)
        finish.set()
        assert (await first).content == (await create(alice)).content


async def test_two_processes_share_the_keys(settings: Settings, alice: AsyncClient) -> None:
    """A repeat may reach another worker than the first request."""
    async with connect_to(other := create_app(settings)):
        there = client_of(other, Authorization=alice.headers["Authorization"])
        answers = await asyncio.gather(*(create(client) for client in (alice, there) * 4))
    assert len({answer.content for answer in answers}) == 1
    assert await titles(alice) == ["Umbrella"]
