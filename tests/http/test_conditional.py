"""Conditional requests to items: of several writers with one tag, one wins."""

import asyncio
from collections import Counter

import pytest
from httpx import AsyncClient
from sqlalchemy import text

from app.database.sessions import Database
from app.http.conditional import expected_versions, is_unchanged
from tests.factories import People, create_item
from tests.problems import assert_problem

CHANGED = "The resource has changed since you read it"
WRITERS = 8


@pytest.fixture
async def alice(people: People) -> AsyncClient:
    """The owner of item 1, at version 1."""
    alice = await people.sign_in("alice")
    await create_item(alice)
    return alice


async def test_every_answer_with_an_item_has_its_tag(alice: AsyncClient) -> None:
    """A change gives the item a new tag."""
    created = await create_item(alice)
    item = created.headers["Location"]
    assert created.headers["ETag"] == (await alice.get(item)).headers["ETag"]
    changed = await alice.patch(item, json={"title": "Parasol"})
    assert changed.headers["ETag"] == (await alice.get(item)).headers["ETag"] != created.headers["ETag"]


async def test_head_is_conditional_too(alice: AsyncClient) -> None:
    assert (await alice.head("/items/1", headers={"If-None-Match": '"1"'})).status_code == 304


SPACED = pytest.param(' "1" ', marks=pytest.mark.in_process("whose requests httpx sends to no server"))


@pytest.mark.parametrize("tags", ['"1"', '"7", "1"', 'W/"1"', "*", SPACED])
async def test_a_change_goes_through_with_the_current_tag(alice: AsyncClient, tags: str) -> None:
    """A proxy that compresses an answer makes its tag weak, which still names the version."""
    answer = await alice.patch("/items/1", json={"title": "Parasol"}, headers={"If-Match": tags})
    assert answer.json()["title"] == "Parasol"
    assert (await alice.delete("/items/1", headers={"If-Match": answer.headers["ETag"]})).status_code == 204


@pytest.mark.parametrize("tags", ['"2"', 'W/"2"', 'W/"01"', '"01"', "1", "", '"1', '"0"', f'"{10**30}"'])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_stale_tag_is_412(alice: AsyncClient, method: str, tags: str) -> None:
    """Text that is no tag is refused alike."""
    body = {"title": "Parasol"} if method == "PATCH" else None
    answer = await alice.request(method, "/items/1", json=body, headers={"If-Match": tags})
    assert_problem(answer, 412, CHANGED)
    assert (await alice.get("/items/1")).json()["title"] == "Umbrella"


@pytest.mark.in_process("whose requests nginx itself refuses")
@pytest.mark.parametrize(("first", "second", "status"), [('"7"', '"1"', 200), ('"1"', '"7"', 200), ('"7"', '"8"', 412)])
async def test_tags_may_come_in_several_lines(alice: AsyncClient, first: str, second: str, status: int) -> None:
    """They are one list (RFC 9110, section 5.3)."""
    lines = [("If-Match", first), ("If-Match", second)]
    assert (await alice.patch("/items/1", json={}, headers=lines)).status_code == status


@pytest.mark.in_process("whose requests nginx itself refuses")
async def test_copies_may_be_named_in_several_lines(alice: AsyncClient) -> None:
    lines = [("If-None-Match", '"7"'), ("If-None-Match", '"1"')]
    assert (await alice.get("/items/1", headers=lines)).status_code == 304
    assert (await alice.get("/items/1", headers=[*lines[:1], ("If-None-Match", '"8"')])).status_code == 200


async def test_others_are_told_nothing_by_a_tag(alice: AsyncClient, people: People) -> None:
    """Rights are checked first, so the answer is 403 or 404 whatever the tag."""
    mallory = await people.sign_in("mallory")
    for tag in ('"1"', '"2"', "*"):
        headers = {"If-Match": tag}
        assert (await mallory.patch("/items/1", json={}, headers=headers)).status_code == 403
        assert (await mallory.delete("/items/1", headers=headers)).status_code == 403
        assert (await alice.patch("/items/99", json={}, headers=headers)).status_code == 404
        assert (await alice.delete("/items/99", headers=headers)).status_code == 404


async def test_one_of_the_writers_with_one_tag_wins(alice: AsyncClient) -> None:
    """The others know that they lost, and the item is the winner's."""
    answers = await asyncio.gather(
        *(
            alice.patch("/items/1", json={"title": f"Writer {number}"}, headers={"If-Match": '"1"'})
            for number in range(WRITERS)
        )
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: WRITERS - 1}
    (winner,) = (answer for answer in answers if answer.status_code == 200)
    assert (await alice.get("/items/1")).json() == winner.json()
    assert winner.headers["ETag"] == '"2"'


async def test_a_deletion_and_changes_with_one_tag_have_one_winner(alice: AsyncClient) -> None:
    """A request that comes after the deletion finds nothing, or learns that the item has changed."""
    tag = {"If-Match": '"1"'}
    changes = [alice.patch("/items/1", json={"title": "Parasol"}, headers=tag) for _ in range(WRITERS)]
    answers = await asyncio.gather(alice.delete("/items/1", headers=tag), *changes)
    assert [answer.status_code for answer in answers if answer.is_success] in ([200], [204])
    assert {answer.status_code for answer in answers if not answer.is_success} <= {404, 412}


async def test_without_a_tag_every_writer_gets_through(alice: AsyncClient) -> None:
    """The writers come one after the other: each change counts, and the last one stays."""
    answers = await asyncio.gather(
        *(alice.patch("/items/1", json={"title": f"Writer {number}"}) for number in range(WRITERS))
    )
    assert [answer.status_code for answer in answers] == [200] * WRITERS
    assert {answer.headers["ETag"] for answer in answers} == {f'"{version}"' for version in range(2, WRITERS + 2)}


async def test_one_of_several_deletions_finds_the_item(alice: AsyncClient) -> None:
    answers = await asyncio.gather(*(alice.delete("/items/1") for _ in range(WRITERS)))
    assert Counter(answer.status_code for answer in answers) == {204: 1, 404: WRITERS - 1}


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_writer_that_commits_after_the_tag_was_compared_wins(
    database: Database, alice: AsyncClient, method: str
) -> None:
    """The database compares the version once more when it writes."""
    body = {"title": "Too late"} if method == "PATCH" else None
    async with database.transaction() as transaction:
        await transaction.execute(text("UPDATE items SET version = 2, title = 'First' WHERE id = 1"))
        late = asyncio.create_task(alice.request(method, "/items/1", json=body, headers={"If-Match": '"1"'}))
        await asyncio.sleep(0.2)
        assert not late.done()
    assert_problem(await late, 412, CHANGED)
    assert (await alice.get("/items/1")).json()["title"] == "First"


def test_only_tags_of_this_form_name_versions() -> None:
    assert expected_versions('"1", W/"2", "03", "4x", "5"') == frozenset({1, 2, 5})
    assert expected_versions(" * ") is expected_versions(None) is None
    assert expected_versions('"2", ' * 100 + '"1"') == frozenset({2})
    assert not is_unchanged('"2", ' * 100 + '"1"', 1)
    assert not is_unchanged(None, 1)
    assert not is_unchanged('"1,"2""', 1)
