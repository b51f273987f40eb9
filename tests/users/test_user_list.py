"""The superusers' list of accounts: paged, sorted and searched as items are."""

import pytest
from httpx import AsyncClient
from litestar import Litestar

from tests.factories import People, add_user
from tests.problems import assert_problem

NAMES = ("bob", "Carol", "dave", "erin")


@pytest.fixture
async def root(people: People, app: Litestar) -> AsyncClient:
    """A client that is signed in as a superuser, root, among four other users."""
    for name in NAMES:
        await add_user(app, name)
    return await people.sign_in("root", is_superuser=True)


async def usernames(client: AsyncClient, query: str = "") -> list[str]:
    """Return the names on one page."""
    answer = await client.get(f"/users{query}")
    assert answer.status_code == 200, answer.text
    return [user["username"] for user in answer.json()]


async def test_only_superusers_list_the_accounts(alice: AsyncClient) -> None:
    """Others may not, whatever they ask for."""
    assert_problem(await alice.get("/users"), 403, "Only superusers may do this")


async def test_the_accounts_are_listed_newest_first(root: AsyncClient) -> None:
    """None of them has a password or its hash."""
    assert await usernames(root) == ["root", "erin", "dave", "Carol", "bob"]
    assert "password" not in (await root.get("/users")).text


async def test_the_accounts_are_sorted_by_name_in_both_directions(root: AsyncClient) -> None:
    """Names are sorted by code point, so capitals come before small letters."""
    assert await usernames(root, "?sort=username") == ["Carol", "bob", "dave", "erin", "root"]
    assert await usernames(root, "?sort=-username") == ["root", "erin", "dave", "bob", "Carol"]
    assert await usernames(root, "?sort=created_at") == ["bob", "Carol", "dave", "erin", "root"]


async def test_a_page_of_accounts_names_the_next_one(root: AsyncClient) -> None:
    """The last page names none, and no account is missing or there twice."""
    answer = await root.get("/users?sort=username&limit=2&count=true")
    assert answer.headers["X-Total-Count"] == "5"
    listed = [user["username"] for user in answer.json()]
    while "next" in answer.links:
        answer = await root.get(answer.links["next"]["url"])
        listed += [user["username"] for user in answer.json()]
    assert listed == ["Carol", "bob", "dave", "erin", "root"]


async def test_a_search_finds_names_and_addresses_in_any_case(root: AsyncClient) -> None:
    """Wildcards stand for themselves."""
    assert await usernames(root, "?q=CAR") == ["Carol"]
    assert await usernames(root, "?q=dave%40EXAMPLE") == ["dave"]
    assert await usernames(root, "?q=%25") == []


async def test_a_wrong_order_is_refused(root: AsyncClient) -> None:
    """The answer names the parameter."""
    assert_problem(await root.get("/users?sort=hashed_password"), 422)
