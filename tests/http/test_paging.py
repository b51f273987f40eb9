"""Pages of a list, as items have them: none skips a row or repeats one, and a cursor fits one list only."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import text

from app.database.pages import Position
from app.database.sessions import Database
from app.errors import InvalidFields
from app.http.paging import Cursors
from app.items.repository import ItemRepository
from tests.factories import Statements, add_user, create_item, on_postgresql
from tests.problems import assert_problem, pointers

SORTS = ["id", "-id", "updated_at", "-updated_at", "title", "-title"]
SECRET = "3f1a-first-secret"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def next_of(answer: Response) -> str | None:
    """Return the URL of the next page (RFC 8288)."""
    link = answer.links.get("next")
    return link["url"] if link else None


async def pages(client: AsyncClient, url: str) -> AsyncIterator[Response]:
    """Yield a list's pages, from the first to the last."""
    following: str | None = url
    while following:
        answer = await client.get(following)
        assert answer.status_code == 200, answer.text
        yield answer
        following = next_of(answer)


async def ids(client: AsyncClient, url: str) -> list[int]:
    """Return the ids on all pages."""
    return [item["id"] async for page in pages(client, url) for item in page.json()]


# Orders ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("sort", SORTS)
async def test_every_order_reaches_every_row_once(alice: AsyncClient, sort: str, limit: int) -> None:
    """Rows that are equal come in the order of their ids, in the same direction, whatever the size of the page."""
    for title in ["b", "a", "b", "c", "a", "b", "A"]:
        await create_item(alice, title)
    await alice.patch("/items/2", json={"description": "changed last"})
    items = {item["id"]: item for item in (await alice.get("/items/")).json()}
    order = sort.removeprefix("-")
    expected = sorted(items, key=lambda key: (items[key][order], key), reverse=sort.startswith("-"))
    assert await ids(alice, f"/items/?sort={sort}&limit={limit}") == expected


async def test_titles_are_ordered_by_code_point(alice: AsyncClient) -> None:
    """The rules of a language differ between databases and change with their libraries."""
    titles = ["b", "B", "a", "Z", "_", "é", "z", "ß", "zebra", "\u4e2d", "\uffff", "\U0001f302", " ", "-", "a b", "ab"]
    for title in titles:
        await create_item(alice, title)
    found = [item["title"] async for page in pages(alice, "/items/?sort=title&limit=4") for item in page.json()]
    assert found == sorted(titles)


@pytest.mark.parametrize("sort", ["title", "-title"])
async def test_the_longest_title_fits_a_cursor(alice: AsyncClient, sort: str) -> None:
    """The title has characters that take four bytes each."""
    for _ in range(3):
        await create_item(alice, "\U0001f302" * 200)
    assert len(await ids(alice, f"/items/?sort={sort}&limit=1")) == 3


# Links ----------------------------------------------------------------------------------------------------------------


async def test_a_page_links_to_the_next_by_path_and_query(alice: AsyncClient) -> None:
    """The link keeps the request's query, and names no host, since a proxy may have changed it."""
    for number in range(5):
        await create_item(alice, f"ä&b {number}")
    first = await alice.get("/items/?sort=title&limit=2&q=%C3%A4%26b&count=true", headers={"Host": "inner:8000"})
    link = first.headers["Link"]
    assert link.startswith("</items")
    assert link.endswith('>; rel="next"')
    assert "?sort=title&limit=2&q=%C3%A4%26b&count=true&cursor=" in link
    following = next_of(first)
    assert following
    second = await alice.get(following)
    assert [item["title"] for item in second.json()] == ["ä&b 2", "ä&b 3"]
    assert second.headers["Link"].count("cursor=") == 1
    assert second.headers["X-Total-Count"] == "5"


@pytest.mark.parametrize("items", [0, 1, 2])
async def test_the_last_page_links_nowhere(alice: AsyncClient, items: int) -> None:
    """A page that is full, one that isn't and an empty one are alike in it."""
    for _ in range(items):
        await create_item(alice)
    assert "Link" not in (await alice.get("/items/?limit=2")).headers


async def test_pages_are_counted_only_when_asked(alice: AsyncClient, statements: Statements) -> None:
    """The count is a statement of its own."""
    for number in range(3):
        await create_item(alice, "odd" if number % 2 else "even")
    for query, total, expected in [("", None, 2), ("?count=false", None, 2), ("?count=true&limit=1", "3", 3)]:
        statements.clear()
        answer = await alice.get(f"/items/{query}")
        assert answer.headers.get("X-Total-Count") == total
        assert len(statements) == expected
    assert (await alice.get("/items/?count=true&q=odd")).headers["X-Total-Count"] == "1"


async def test_a_page_past_the_last_row_knows_how_many_there_are(alice: AsyncClient) -> None:
    """A count that came with the rows would be 0 on this page."""
    for _ in range(3):
        await create_item(alice)
    link = (await alice.get("/items/?limit=2&count=true")).links["next"]["url"]
    await alice.delete("/items/1")
    answer = await alice.get(link)
    assert (answer.json(), answer.headers["X-Total-Count"]) == ([], "2")


async def test_head_has_the_headers_of_get(alice: AsyncClient) -> None:
    for _ in range(2):
        await create_item(alice)
    query = "/items/?limit=1&count=true"
    head, get = await alice.head(query), await alice.get(query)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Link", "X-Total-Count", "Content-Length"):
        assert head.headers[name] == get.headers[name]


# While others write ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", SORTS)
async def test_rows_that_stay_are_seen_once_while_others_come_and_go(alice: AsyncClient, sort: str) -> None:
    """Between pages, items come at both ends and in the middle, and others go, the last one seen among them."""
    for number in range(30):
        await create_item(alice, f"title {number:02}")
    start = set(range(1, 31))
    seen: list[int] = []
    deleted: set[int] = set()
    async for page in pages(alice, f"/items/?sort={sort}&limit=4"):
        seen += [item["id"] for item in page.json()]
        unseen = sorted(start - set(seen) - deleted)
        for gone in {seen[-1], *unseen[1:2], *unseen[-1:]}:
            assert (await alice.delete(f"/items/{gone}")).status_code == 204
            deleted.add(gone)
        for title in ("", "title 15", "zzz"):
            if len(seen) < 60:
                await create_item(alice, f"{title}!")
    assert len(seen) == len(set(seen))
    assert start - deleted <= set(seen)


@pytest.mark.parametrize("sort", SORTS)
async def test_reading_races_with_writing(alice: AsyncClient, sort: str) -> None:
    """Rows that stay are seen once, too, when the writers don't wait for the reader."""
    for number in range(24):
        await create_item(alice, f"title {number:02}")

    async def write(number: int) -> None:
        await create_item(alice, f"title {number:02} too")
        await alice.delete(f"/items/{number}")

    writers = asyncio.gather(*(write(number) for number in range(2, 24, 3)))
    seen = await ids(alice, f"/items/?sort={sort}&limit=2")
    await writers
    assert len(seen) == len(set(seen))
    assert set(range(1, 25)) - set(range(2, 24, 3)) <= set(seen)


async def test_a_row_that_is_changed_is_not_lost_from_the_list_by_id(alice: AsyncClient) -> None:
    """The place of a row in this list doesn't depend on what may change."""
    for number in range(6):
        await create_item(alice, f"title {number}")
    seen = []
    async for page in pages(alice, "/items/?limit=2"):
        seen += [item["id"] for item in page.json()]
        for item in (1, 6):
            await alice.patch(f"/items/{item}", json={"title": f"changed {len(seen)}"})
    assert seen == [6, 5, 4, 3, 2, 1]


# Plans ----------------------------------------------------------------------------------------------------------------


INDEXES = {
    "id": "ix_items_owner_id_id",
    "updated_at": "ix_items_owner_id_updated_at_id",
    "title": "ix_items_owner_id_title_id",
}
FILL = text("""
    INSERT INTO items (owner_id, title, search_text, version, created_at, updated_at)
    SELECT :owner, 'title ' || number, '', 1, now(), now() FROM generate_series(1, 5000) AS number
""")


@on_postgresql
@pytest.mark.parametrize("sort", SORTS)
async def test_a_page_passes_by_no_row_of_others(
    app: Litestar, alice: AsyncClient, database: Database, sort: str
) -> None:
    """Here all of alice's rows are both older and younger than many of others."""
    assert (await alice.get("/users/me")).json()["id"] == 1
    await add_user(app, "bob")
    query = ItemRepository(database).listing.select(sort, 0, after=False).compile(database.engine)
    assert query.positiontup == ["owner_id", "limit"]
    async with database.transaction() as transaction:
        for owner in (2, 1, 2):
            await transaction.execute(FILL, {"owner": owner})
        await transaction.execute(text("ANALYZE items"))
        connection = await transaction.connection()
        plan = "\n".join((await connection.exec_driver_sql(f"EXPLAIN {query}", (1, 21))).scalars())
    assert f"using {INDEXES[sort.removeprefix('-')]}" in plan
    assert "Filter" not in plan
    assert "Sort" not in plan


# Cursors --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def cursor(alice: AsyncClient) -> str:
    """One of alice's cursors, by title, searching for `item`."""
    for number in range(3):
        await create_item(alice, f"Item {number}")
    answer = await alice.get("/items/?sort=title&limit=1&q=Item")
    return answer.links["next"]["url"].partition("cursor=")[2]


@pytest.mark.parametrize("query", ["sort=title&q=item", "sort=title&q=%20ITEM%20item", "q=item&sort=title&limit=9"])
async def test_a_cursor_goes_with_its_order_and_words(alice: AsyncClient, cursor: str, query: str) -> None:
    """The case and number of the words don't matter, and the size of the page may change."""
    answer = await alice.get(f"/items/?{query}&cursor={cursor}")
    assert [item["title"] for item in answer.json()][:1] == ["Item 1"]


@pytest.mark.parametrize(
    "query", ["q=item", "sort=-title&q=item", "sort=title", "sort=title&q=items", "sort=id&q=item"]
)
async def test_a_cursor_of_another_list_is_refused(alice: AsyncClient, cursor: str, query: str) -> None:
    """A list with another order or another search is another list."""
    assert pointers(await alice.get(f"/items/?{query}&cursor={cursor}")) == ["/cursor"]


async def test_a_cursor_of_another_user_is_refused(bob: AsyncClient, cursor: str) -> None:
    assert pointers(await bob.get(f"/items/?sort=title&q=item&cursor={cursor}")) == ["/cursor"]


async def test_a_changed_cursor_is_refused(alice: AsyncClient, cursor: str) -> None:
    """One character that is changed anywhere in the cursor is enough."""
    bent = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    longer = [cursor + more for more in ("A", "AA", "=", "==", ".", "%0A", "%20", "!", "%C3%A9")]
    for forged in [*bent, *longer, cursor[:-1], cursor[1:], "A", "AAAA", "%00", "-", "x" * 2000]:
        assert pointers(await alice.get(f"/items/?sort=title&q=item&cursor={forged}")) == ["/cursor"], forged


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=", "/limit"),
        ("limit=ten", "/limit"),
        ("limit=1.0", "/limit"),
        ("limit=01", "/limit"),
        ("limit=1_0", "/limit"),
        ("limit=%2B1", "/limit"),
        ("limit=%201", "/limit"),
        ("limit=%D9%A1", "/limit"),
        ("limit=99999999999999999999", "/limit"),
        ("limit=1&limit=1", "/limit"),
        ("sort=", "/sort"),
        ("sort=owner_id", "/sort"),
        ("sort=ID", "/sort"),
        ("sort=--id", "/sort"),
        ("sort=id,title", "/sort"),
        ("sort=title&sort=id", "/sort"),
        ("cursor=", "/cursor"),
        ("cursor=" + "x" * 2001, "/cursor"),
        ("count=", "/count"),
        ("count=1", "/count"),
        ("count=True", "/count"),
        ("q=" + "x" * 201, "/q"),
        ("q=" + "+".join("abcdefghijk"), "/q"),
        ("q=%00", "/q"),
        ("q=a&q=b", "/q"),
        ("offset=50", "/offset"),
        ("Limit=5", "/Limit"),
    ],
)
async def test_a_bad_query_is_422(alice: AsyncClient, query: str, pointer: str) -> None:
    """Unknown names, repeated names and wrong values are refused, each with its pointer."""
    assert pointers(await alice.get(f"/items/?{query}")) == [pointer]


@pytest.mark.parametrize("query", ["q=%FF", "q=%ED%A0%80", "%C3=1"])
async def test_a_query_that_is_not_utf8_is_400(alice: AsyncClient, query: str) -> None:
    assert_problem(await alice.get(f"/items/?{query}"), 400, "The query is not valid UTF-8")


def test_a_cursor_gives_back_what_was_sealed() -> None:
    """It holds text, a number or a time, to the microsecond."""
    cursors = Cursors(SECRET)
    for value in ("title \U0001f302", 2**63 - 1, AT):
        position = Position(value, 5)
        assert cursors.open(cursors.seal(position, "/items", 7), "/items", 7) == position


def test_a_cursor_lives_through_a_change_of_the_secret() -> None:
    """It is good as long as the earlier secret is still known."""
    sealed = Cursors(SECRET).seal(Position("a", 5), "/items")
    assert Cursors("another", SECRET).open(sealed, "/items") == Position("a", 5)
    with pytest.raises(InvalidFields):
        Cursors("another", "").open(sealed, "/items")
