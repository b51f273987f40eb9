"""The history of accounts: lists, lines, and how long what is kept."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import insert, literal, select, text

from app.database.models import now
from app.database.sessions import Database
from app.errors import Unavailable
from app.history.feature import feature
from app.history.repository import EVENTS, EventRepository, Selection, listing
from app.history.service import ROWS_AT_ONCE, HistoryService
from app.http.feature import Parts
from app.main import FEATURES, create_app
from app.security.limits import Client
from app.settings import Settings
from tests.auth.oauth import bearer, client_from, fetch, new_user
from tests.events import Event
from tests.factories import People, Statements, add_user, connect_to, log_in, on_postgresql, on_sqlite, parts_of
from tests.outbox import deliver
from tests.problems import assert_problem, pointers

NDJSON = "application/x-ndjson"
START = datetime(2026, 1, 1, tzinfo=UTC)
# Each use of a filter, with the index that serves it.
INDEXES = {
    "": "ix_events_created_at_id",
    "since until": "ix_events_created_at_id",
    "user_id": "ix_events_user_id_created_at_id",
    "since until user_id": "ix_events_user_id_created_at_id",
    "type": "ix_events_type_created_at_id",
    "since type until": "ix_events_type_created_at_id",
}


async def add_events(app: Litestar, *rows: Event) -> None:
    """Add rows, a minute apart unless they have times of their own."""
    values = [
        {"type": "login", "details": {}, "created_at": START + timedelta(minutes=number), **row}
        for number, row in enumerate(rows)
    ]
    async with parts_of(app).database.transaction() as transaction:
        for value in values:
            await transaction.execute(insert(EVENTS).values(**value))


async def add_many(app: Litestar, count: int, user_id: int) -> None:
    """Add events that all happened at one moment, by one statement."""
    numbers = select(literal(1).label("number")).cte(recursive=True)
    numbers = numbers.union_all(select(numbers.c.number + 1).where(numbers.c.number < count))
    details = literal({"count": 1}, EVENTS.c.details.type)
    row = select(
        literal("login"), literal(user_id), details, literal(START, EVENTS.c.created_at.type), numbers.c.number
    )
    names = ["type", "user_id", "details", "created_at", "session_id"]
    async with parts_of(app).database.transaction() as transaction:
        await transaction.execute(insert(EVENTS).from_select(names, row))


async def do_chores(app: Litestar) -> None:
    """Do what is done daily."""
    for chore in feature(parts_of(app)).chores:
        await chore()


async def listed(client: AsyncClient, path: str = "/users/me/events", **query: str) -> list[Any]:
    """Return the first page of a list of events."""
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    rows: list[Any] = answer.json()
    return rows


def types(rows: Sequence[Event]) -> list[str]:
    """Return the types of events, in their order."""
    return [row["type"] for row in rows]


# Lists ----------------------------------------------------------------------------------------------------------------


async def test_people_see_what_happened_to_their_account(app: Litestar, alice: AsyncClient, bob: AsyncClient) -> None:
    """The newest comes first, with the client's address and device; another's events aren't there."""
    caller = client_from(app, "203.0.113.7", **{"User-Agent": "a browser", "X-Request-ID": "the-request"})
    await log_in(caller, "alice", password="wrong")
    await bob.patch("/users/me", json={"username": "robert"})
    failed, login = await listed(alice)
    assert (failed.pop("id"), failed.pop("created_at")) > (login["id"], login["created_at"])
    assert failed == {
        "type": "login_failed",
        "user_id": 1,
        "actor_id": None,
        "client_id": None,
        "session_id": None,
        "address": "203.0.113.7",
        "device": "a browser",
        "request_id": "the-request",
        "details": {},
    }
    assert (login["type"], login["actor_id"], login["details"]) == ("login", 1, {"amr": "pwd"})


async def test_superusers_see_what_happened_to_all(
    alice: AsyncClient, root: AsyncClient, app: Litestar, client: AsyncClient
) -> None:
    """Names that nobody has are nobody's; a filter chooses one account."""
    await log_in(client, "nobody")
    rows = await listed(root, "/events")
    assert [(row["type"], row["user_id"]) for row in rows] == [("login_failed", None), ("login", 2), ("login", 1)]
    assert [row["user_id"] for row in await listed(root, "/events", user_id="1")] == [1]
    assert_problem(await alice.get("/events"), 403, "Only superusers may do this")
    assert len(await fetch(app, select(EVENTS.c.id))) == 3


async def test_filters_choose_by_type_and_time(app: Litestar, alice: AsyncClient) -> None:
    """`since` is inclusive, `until` exclusive, and both are moments with a zone."""
    await add_events(app, *({"user_id": 1, "type": kind} for kind in ("logout", "login", "logout", "login_failed")))
    assert types(await listed(alice, type="logout")) == ["logout", "logout"]
    span = {"since": "2026-01-01T00:01:00Z", "until": "2026-01-01T04:03:00+04:00"}
    assert types(await listed(alice, **span)) == ["logout", "login"]
    assert types(await listed(alice, type="login", **span)) == ["login"]
    assert types(await listed(alice, until="2026-01-01T00:00:00.000001Z")) == ["logout"]


async def test_pages_pass_over_no_row_and_repeat_none(app: Litestar, alice: AsyncClient, bob: AsyncClient) -> None:
    """A cursor goes with its filters, its path and its caller."""
    await add_events(app, *({"user_id": 1, "created_at": START} for _ in range(7)), {"user_id": 2})
    seen, last, pages = [], "", 0
    url = "/users/me/events?limit=3&until=2026-02-01T00:00:00Z"
    while url:
        answer = await alice.get(url)
        seen += [row["id"] for row in answer.json()]
        url, last, pages = answer.links.get("next", {}).get("url", ""), url, pages + 1
    assert (pages, seen) == (3, sorted(seen, reverse=True))
    assert len(set(seen)) == 7
    assert pointers(await alice.get(last.replace("until=2026-02-01", "until=2026-03-01"))) == ["/cursor"]
    assert pointers(await bob.get(last)) == ["/cursor"]


@on_sqlite
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "looked_at"),
        ("type", ""),
        ("since", "2026-01-01"),
        ("since", "2026-01-01T00:00:00"),
        ("since", "1700000000"),
        ("until", "2026-13-01T00:00:00Z"),
        ("until", "0001-01-01T00:00:00+14:00"),
        ("until", "2026-01-01T00:00:00+25:00"),
        ("user_id", "0"),
        ("user_id", "+1"),
        ("limit", "101"),
        ("count", "true"),
        ("sort", "id"),
    ],
)
async def test_a_query_that_means_nothing_is_422(root: AsyncClient, name: str, value: str) -> None:
    assert pointers(await root.get("/events", params={name: value})) == [f"/{name}"]


@on_sqlite
async def test_the_document_lists_the_types(client: AsyncClient, app: Litestar) -> None:
    """It also has both forms of the answer."""
    document = (await client.get("/openapi.json")).json()
    for path in ("/events", "/users/me/events"):
        operation = document["paths"][path]["get"]
        (parameter,) = [parameter for parameter in operation["parameters"] if parameter["name"] == "type"]
        assert parameter["schema"]["enum"] == sorted(parts_of(app).events.types)
        assert set(operation["responses"]["200"]["content"]) == {"application/json", NDJSON}


@on_postgresql
@pytest.mark.parametrize("filters", INDEXES)
async def test_each_filter_has_its_index(database: Database, filters: str) -> None:
    """The rows come in their order, and none is read that another account or type has."""
    query = listing(frozenset(filters.split())).select("-created_at", 0, after=False).compile(database.engine)
    values = {"user_id": 7, "type": "logout", "since": START, "until": now(), "limit": 21}
    async with database.transaction() as transaction:
        await transaction.execute(
            text("""
            INSERT INTO events (type, user_id, details, created_at)
            SELECT CASE number % 10 WHEN 0 THEN 'logout' ELSE 'login' END, number % 100, '{}',
                now() - number * interval '1 second'
            FROM generate_series(1, 20000) AS number
            """)
        )
        await transaction.execute(text("ANALYZE events"))
        connection = await transaction.connection()
        arguments = tuple(values[name] for name in query.positiontup or [])
        plan = "\n".join((await connection.exec_driver_sql(f"EXPLAIN {query}", arguments)).scalars())
    assert f"using {INDEXES[filters]}" in plan
    assert "Filter" not in plan
    assert "Sort" not in plan


# Lines ----------------------------------------------------------------------------------------------------------------


async def test_all_events_come_as_lines_in_parts(app: Litestar, alice: AsyncClient, parts: Parts) -> None:
    """No part has more rows than one page by keyset, so that memory doesn't grow with the history."""
    await add_many(app, 10 * ROWS_AT_ONCE, 1)
    answer = await alice.get("/users/me/events?type=login", headers={"Accept": NDJSON})
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON)
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 10 * ROWS_AT_ONCE + 1
    assert rows[:2] == (await alice.get("/users/me/events?limit=2")).json()
    history = HistoryService(EventRepository(parts.database))
    every_part = [part async for part in history.lines(Selection(user_id=1), 1)]
    assert [part.count(b"\n") for part in every_part] == [*[ROWS_AT_ONCE] * 10, 1]


@on_sqlite
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("application/json, application/x-ndjson", "application/json"),
        ("application/x-ndjson;q=0", "application/json"),
        ("Application/X-NDJSON, */*;q=inf", NDJSON),
        ("application/json;q=0.5, application/x-ndjson", NDJSON),
    ],
)
async def test_the_answer_is_what_the_client_accepts(alice: AsyncClient, accept: str, content_type: str) -> None:
    answer = await alice.get("/users/me/events", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert "Accept" in answer.headers["vary"]


async def test_head_reads_the_first_part_alone(app: Litestar, alice: AsyncClient, statements: Statements) -> None:
    """It has the headers of GET, and gives its turn back."""
    await add_many(app, 2 * ROWS_AT_ONCE, 1)
    for _ in range(3):
        statements.clear()
        answer = await alice.head("/users/me/events", headers={"Accept": NDJSON})
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, NDJSON, b"")
        assert "content-length" not in answer.headers
        assert len([statement for statement in statements if "FROM events" in statement]) == 1


@on_sqlite
async def test_so_many_streams_run_at_once(
    alice: AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One person has two; a stream that ends early gives its turn back."""
    monkeypatch.setattr("app.database.turns.WAIT_SECONDS", 0.01)
    history = HistoryService(EventRepository(database))
    running = [history.lines(Selection(user_id=1), 1) for _ in range(2)]
    for lines in running:
        assert (await anext(lines)).count(b"\n") == 1
    with pytest.raises(Unavailable):
        await anext(history.lines(Selection(user_id=1), 1))
    await running[0].aclose()
    assert [part async for part in history.lines(Selection(user_id=1), 1)]
    await running[1].aclose()
    monkeypatch.setattr("app.database.turns.TURNS_OF_ONE_USER", 0)
    refused = await alice.get("/users/me/events", headers={"Accept": NDJSON})
    assert_problem(refused, 503, "Too many streams of events at once; try again")
    assert len(await listed(alice)) == 1


@on_sqlite
async def test_a_stream_that_takes_too_long_is_broken_off(
    app: Litestar, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sees that the end is missing."""
    monkeypatch.setattr("app.history.service.STREAM_SECONDS", -1)
    await add_many(app, ROWS_AT_ONCE + 1, 1)
    lines = HistoryService(EventRepository(database)).lines(Selection(), 1)
    assert await anext(lines)
    with pytest.raises(TimeoutError):
        await anext(lines)


# How long what is kept ------------------------------------------------------------------------------------------------


async def test_old_events_are_deleted_daily(app: Litestar, people: People) -> None:
    """They are kept for EVENTS_KEEP_DAYS."""
    await people.sign_in("alice")
    await add_events(app, {"created_at": now() - timedelta(days=366)}, {"created_at": now() - timedelta(days=364)})
    await do_chores(app)
    assert [row.id for row in await fetch(app, select(EVENTS.c.id).order_by(EVENTS.c.id))] == [1, 3]


async def test_events_of_a_deleted_account_lose_what_tells_of_a_person(
    app: Litestar, alice: AsyncClient, root: AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay, with the account's id. Where there are many, a job does the rest; others' events keep all."""
    monkeypatch.setattr("app.history.service.FORGET_AT_ONCE", 2)
    person = {"address": "203.0.113.7", "device": "a browser"}
    await add_events(app, *({"user_id": 1, **person} for _ in range(5)), {"user_id": 9, "actor_id": 1, **person})
    await add_events(app, {"user_id": 9, "actor_id": 9, **person})
    assert (await alice.delete("/users/me")).status_code == 204
    assert len([row for row in await listed(root, "/events", user_id="1") if row["address"]]) == 5
    await deliver(app, settings)
    rows = await listed(root, "/events")
    hers = [row for row in rows if 1 in {row["user_id"], row["actor_id"]}]
    assert types(hers) == ["account_deleted", "login", *["login"] * 6]
    assert {(row["address"], row["device"]) for row in hers} == {(None, None)}
    assert all(row["address"] for row in rows if row not in hers)


async def test_what_is_recorded_after_a_deletion_is_forgotten_within_a_day(app: Litestar, client: AsyncClient) -> None:
    """A login can be refused while its account is deleted."""
    assert client.base_url.host == "test"  # The application runs.
    kept = await add_user(app, "kept")
    for user_id in (kept.id, 99):
        stranger = Client("203.0.113.7", "203.0.113.7", "a browser")
        await parts_of(app).events.record_alone("login_failed", stranger, user_id=user_id)
    await do_chores(app)
    rows = await fetch(app, select(EVENTS.c.address, EVENTS.c.device).order_by(EVENTS.c.id))
    assert [tuple(row) for row in rows] == [("203.0.113.7", "a browser"), (None, None)]


@on_sqlite
async def test_without_the_feature_events_are_lines_alone(settings: Settings) -> None:
    """Nothing else needs it."""
    app = create_app(settings, [other for other in FEATURES if other is not feature])
    async with connect_to(app) as client:
        alice = await new_user(app)
        assert (await log_in(client, "alice")).status_code == 200
        assert (await log_in(client, "alice", password="wrong")).status_code == 401
        assert (await client.delete("/users/me", headers=bearer(alice))).status_code == 204
        assert await fetch(app, select(EVENTS.c.id)) == []
