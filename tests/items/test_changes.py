"""Changing and deleting items."""

from datetime import datetime
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories import People, Statements, create_item
from tests.problems import assert_problem, pointers

NOT_YOURS = "Not authorized to access this item"


@pytest.fixture
async def alice(people: People) -> AsyncClient:
    """The owner of item 1, an Umbrella that is Black."""
    alice = await people.sign_in("alice")
    await create_item(alice, "Umbrella", "Black")
    return alice


async def test_a_change_answers_with_the_whole_item(alice: AsyncClient) -> None:
    """Reading the item gives the same."""
    before = (await alice.get("/items/1")).json()
    answer = await alice.patch("/items/1", json={"title": "Parasol", "description": "White"})
    assert answer.status_code == 200
    changed = answer.json()
    assert changed == before | {"title": "Parasol", "description": "White", "updated_at": changed["updated_at"]}
    assert datetime.fromisoformat(changed["updated_at"]) > datetime.fromisoformat(before["updated_at"])
    assert (await alice.get("/items/1/")).json() == changed


@pytest.mark.parametrize(
    ("body", "title", "description"),
    [
        ({"title": "Parasol"}, "Parasol", "Black"),
        ({"description": "White"}, "Umbrella", "White"),
        ({"description": None}, "Umbrella", None),
        ({"description": ""}, "Umbrella", ""),
    ],
)
async def test_absent_fields_keep_their_value(
    alice: AsyncClient, body: dict[str, Any], title: str, description: str | None
) -> None:
    """A null clears the description."""
    item = (await alice.patch("/items/1", json=body)).json()
    assert (item["title"], item["description"]) == (title, description)


@pytest.mark.parametrize("body", [{}, {"title": "Umbrella"}, {"title": "Umbrella", "description": "Black"}])
async def test_a_change_that_changes_nothing_keeps_the_tag(alice: AsyncClient, body: dict[str, str]) -> None:
    """The version stays, and so does the time of the last change."""
    before = await alice.get("/items/1")
    answer = await alice.patch("/items/1", json=body)
    assert (answer.status_code, answer.json()) == (200, before.json())
    assert answer.headers["ETag"] == before.headers["ETag"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"title": None}, "/title"),
        ({"title": ""}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": 5}, "/title"),
        ({"title": "a\0b"}, "/title"),
        ({"description": "x" * 10_001}, "/description"),
        ({"description": "a\0b"}, "/description"),
        ({"owner_id": 2}, "/owner_id"),
        ({"id": 2}, "/id"),
        ({"version": 2}, "/version"),
    ],
)
async def test_a_bad_change_is_422(alice: AsyncClient, body: dict[str, Any], pointer: str) -> None:
    assert pointers(await alice.patch("/items/1", json=body)) == [pointer]


async def test_a_deleted_item_is_gone(alice: AsyncClient) -> None:
    answer = await alice.delete("/items/1")
    assert (answer.status_code, answer.content) == (204, b"")
    for again in (await alice.get("/items/1"), await alice.delete("/items/1"), await alice.patch("/items/1", json={})):
        assert_problem(again, 404, "Item not found")
    assert (await create_item(alice)).json()["id"] == 2


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_only_the_owner_may_change_and_delete(
    people: People, alice: AsyncClient, client: AsyncClient, method: str
) -> None:
    """Others, superusers included, get 403; a caller who isn't signed in gets 401."""
    body = {"title": "Mine"} if method == "PATCH" else None
    for other in (await people.sign_in("bob"), await people.sign_in("root", is_superuser=True)):
        assert_problem(await other.request(method, "/items/1", json=body), 403, NOT_YOURS)
    assert_problem(await client.request(method, "/items/1", json=body), 401, "Not authenticated")
    assert (await alice.get("/items/1")).json()["title"] == "Umbrella"


async def test_what_a_change_and_a_deletion_cost(alice: AsyncClient, statements: Statements) -> None:
    """They take the guard's query, the item and the write; a change of nothing saves the write."""
    for request, expected in (
        (alice.patch("/items/1", json={"title": "Parasol"}), ["SELECT", "SELECT", "UPDATE"]),
        (alice.patch("/items/1", json={"title": "Parasol"}), ["SELECT", "SELECT"]),
        (alice.delete("/items/1"), ["SELECT", "SELECT", "DELETE"]),
    ):
        statements.clear()
        assert (await request).is_success
        verbs = [statement.split()[0] for statement in statements]
        assert [verb for verb in verbs if verb not in {"BEGIN", "COMMIT"}] == expected
