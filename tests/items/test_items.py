"""Creating, listing and reading items over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from httpx import AsyncClient

from tests.factories import People, Statements, create_item
from tests.owned import assert_owned
from tests.problems import assert_problem, pointers

NOT_YOURS = "Not authorized to access this item"


async def test_an_item_is_its_owners_alone(people: People) -> None:
    body, wrong = {"title": "Umbrella"}, {"title": "", "description": 5, "owner_id": 2}
    await assert_owned(people, "/items", body, wrong=wrong, missing="Item not found", denied=(403, NOT_YOURS))


# Create ---------------------------------------------------------------------------------------------------------------


async def test_creating_an_item_answers_with_it(alice: AsyncClient) -> None:
    """Its address and its version come with it."""
    answer = await create_item(alice, "Umbrella", "Black, folding")
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/items/1"
    assert answer.headers["ETag"] == '"1"'
    body = answer.json()
    created_at = datetime.fromisoformat(body.pop("created_at"))
    assert created_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
    assert datetime.fromisoformat(body.pop("updated_at")) == created_at
    assert body == {"id": 1, "title": "Umbrella", "description": "Black, folding", "owner_id": 1}


async def test_an_item_answers_at_its_location(alice: AsyncClient) -> None:
    """The answer is the one that its creation gave."""
    created = await create_item(alice)
    read = await alice.get(created.headers["Location"])
    assert (read.status_code, read.json(), read.headers["ETag"]) == (200, created.json(), created.headers["ETag"])


@pytest.mark.parametrize("body", [{"title": "Umbrella"}, {"title": "Umbrella", "description": None}])
async def test_an_item_needs_no_description(alice: AsyncClient, body: dict[str, str | None]) -> None:
    """The description is null then."""
    assert (await alice.post("/items/", json=body)).json()["description"] is None


@pytest.mark.parametrize("title", ["x", "x" * 200, "\u2602\U0001f302", " ", "<b>&amp;", "' OR 1=1 --", "a\nb"])
async def test_text_comes_back_as_it_was_sent(alice: AsyncClient, title: str) -> None:
    """The texts are of the greatest length, in other scripts, or mean something elsewhere."""
    answer = await create_item(alice, title, title * 50)
    assert (answer.json()["title"], answer.json()["description"]) == (title, title * 50)
    assert (await alice.get("/items/1")).json() == answer.json()


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, ["/title"]),
        ({"title": ""}, ["/title"]),
        ({"title": "x" * 201}, ["/title"]),
        ({"title": None}, ["/title"]),
        ({"title": 5}, ["/title"]),
        ({"title": "x", "description": "x" * 10_001}, ["/description"]),
        ({"title": "x", "description": 5}, ["/description"]),
        ({"title": "x", "owner_id": 2, "id": 9}, ["/id", "/owner_id"]),
        ({"titel": "x"}, ["/titel", "/title"]),
    ],
)
async def test_a_wrong_field_is_refused(alice: AsyncClient, body: dict[str, object], refused: list[str]) -> None:
    """Nothing is created."""
    assert pointers(await alice.post("/items/", json=body)) == refused
    assert (await alice.get("/items/")).json() == []


async def test_nobody_creates_an_item_without_signing_in(client: AsyncClient) -> None:
    """The answer is 401 whatever the body is."""
    assert_problem(await create_item(client), 401, "Not authenticated")


async def test_creating_an_item_is_one_insert_that_commits_itself(alice: AsyncClient, statements: Statements) -> None:
    """It comes after the guard's statement, and nothing else has to commit with it."""
    statements.clear()
    await create_item(alice)
    assert [statement.split()[0] for statement in statements] == ["SELECT", "INSERT"]


async def test_items_created_at_once_are_all_there(alice: AsyncClient) -> None:
    """Each has an id of its own."""
    answers = await asyncio.gather(*(create_item(alice, str(number)) for number in range(12)))
    assert {answer.status_code for answer in answers} == {201}
    assert {item["title"] for item in (await alice.get("/items/")).json()} == {str(number) for number in range(12)}


# List -----------------------------------------------------------------------------------------------------------------


async def test_who_has_no_items_gets_an_empty_array(alice: AsyncClient) -> None:
    """The answer is not an error, and no object round the array."""
    answer = await alice.get("/items/")
    assert (answer.status_code, answer.json()) == (200, [])


async def test_a_list_has_the_callers_items_newest_first(people: People) -> None:
    """The items of other users aren't there."""
    alice, bob = await people.sign_in("alice"), await people.sign_in("bob")
    for client, title in [(alice, "first"), (bob, "other"), (alice, "second")]:
        await create_item(client, title)
    assert [item["title"] for item in (await alice.get("/items/")).json()] == ["second", "first"]
    assert [item["title"] for item in (await bob.get("/items/")).json()] == ["other"]


async def test_a_list_holds_fifty_items_or_as_many_as_asked_for(alice: AsyncClient) -> None:
    """The caller may ask for up to a hundred."""
    for number in range(52):
        await create_item(alice, str(number))
    assert len((await alice.get("/items/")).json()) == 50
    assert len((await alice.get("/items/?limit=1")).json()) == 1
    assert len((await alice.get("/items/?limit=100")).json()) == 52


async def test_listing_items_is_one_statement_however_many_there_are(
    alice: AsyncClient, statements: Statements
) -> None:
    """It comes after the guard's statement, and without a transaction."""
    for number in range(5):
        await create_item(alice, str(number))
    statements.clear()
    await alice.get("/items/")
    assert [statement.split()[0] for statement in statements] == ["SELECT", "SELECT"]


# Read -----------------------------------------------------------------------------------------------------------------


async def test_an_item_that_is_not_there_is_404(alice: AsyncClient) -> None:
    assert_problem(await alice.get("/items/1"), 404, "Item not found")


async def test_the_item_of_another_is_403(people: People, alice: AsyncClient) -> None:
    """A superuser is refused, too."""
    bob = await people.sign_in("bob", is_superuser=True)
    await create_item(alice)
    assert_problem(await bob.get("/items/1"), 403, NOT_YOURS)
    assert_problem(await bob.get("/items/1", headers={"If-None-Match": "*"}), 403, NOT_YOURS)


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', '"0", "1"', "*", '"7",W/"1"'])
async def test_a_current_copy_is_304(alice: AsyncClient, tag: str) -> None:
    """The answer has the tag and no body."""
    await create_item(alice)
    answer = await alice.get("/items/1", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", '"1"')


@pytest.mark.parametrize("tag", ['"2"', 'W/"2"', "1", '""', ""])
async def test_a_copy_that_is_not_current_is_sent_anew(alice: AsyncClient, tag: str) -> None:
    """Text that is no tag of this version matches nothing."""
    await create_item(alice)
    assert (await alice.get("/items/1", headers={"If-None-Match": tag})).status_code == 200


async def test_reading_an_item_is_one_statement(alice: AsyncClient, statements: Statements) -> None:
    """It comes after the guard's statement, and without a transaction."""
    await create_item(alice)
    statements.clear()
    await alice.get("/items/1")
    assert [statement.split()[0] for statement in statements] == ["SELECT", "SELECT"]
