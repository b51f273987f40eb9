"""The sessions of a user: seen, ended, limited in number and cleaned up."""

import asyncio
from datetime import datetime, timedelta

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec import convert
from sqlalchemy import func, insert, select, update

from app.auth.models import LoginSession
from app.auth.repository import SessionRepository
from app.auth.schemas import SessionRead
from app.auth.service import MAX_SESSIONS
from app.database.models import now
from app.database.sessions import Database
from tests.auth.oauth import (
    Pair,
    bearer,
    client_from,
    execute,
    fetch,
    new_user,
    open_session,
    refreshed,
    status_of,
)
from tests.factories import Statements, add_user, log_in

COUNT = select(func.count()).select_from(LoginSession)


async def listed(client: AsyncClient, pair: Pair) -> list[SessionRead]:
    """Return the caller's sessions."""
    answer = await client.get("/users/me/sessions", headers=bearer(pair))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-cache"
    return convert(answer.json(), list[SessionRead], strict=False)


async def test_a_session_tells_where_and_when_it_began(app: Litestar, client: AsyncClient) -> None:
    """The device calls itself what it likes; the address is the connection's."""
    await add_user(app, "alice")
    phone = client_from(app, "198.51.100.7", **{"User-Agent": "Phone/1.0"})
    began = now().replace(second=0, microsecond=0)
    pair = (await log_in(phone, "alice")).json()
    (session,) = await listed(client, pair)
    assert session.device == "Phone/1.0"
    assert session.address == "198.51.100.7"
    assert session.current
    assert began <= session.created_at <= now()
    assert session.last_used_at == session.created_at
    assert session.expires_at - session.created_at == timedelta(days=14)


@pytest.mark.parametrize(
    ("agent", "device"),
    [("", ""), ("x" * 300, "x" * 256), ("Caf\N{LATIN SMALL LETTER E WITH ACUTE}/1", None)],
    ids=["none", "long", "latin"],
)
async def test_any_device_may_sign_in(app: Litestar, client: AsyncClient, agent: str, device: str | None) -> None:
    """The device's name for itself is cut to what the table holds."""
    await add_user(app, "alice")
    answer = await client.post(
        "/token",
        data={"username": "alice", "password": "correct horse battery staple"},
        headers=[(b"User-Agent", agent.encode())],
    )
    assert answer.status_code == 200
    (session,) = await listed(client, answer.json())
    assert device is None or session.device == device


async def test_exactly_one_session_is_the_current_one(app: Litestar, client: AsyncClient) -> None:
    """Each token sees the same list, with another session marked; the latest used comes first."""
    user = await add_user(app, "alice")
    await new_user(app, "bob")
    pairs = [await open_session(app, user.id, device=f"device {number}") for number in range(3)]
    for number, pair in enumerate(pairs):
        sessions = await listed(client, pair)
        assert [session.device for session in sessions] == ["device 2", "device 1", "device 0"]
        assert [session.device for session in sessions if session.current] == [f"device {number}"]


async def test_refreshing_keeps_the_session(app: Litestar, client: AsyncClient) -> None:
    """The list shows one login, not each token."""
    pair = await new_user(app)
    before = await listed(client, pair)
    assert await listed(client, await refreshed(client, pair)) == before


async def test_ending_a_session_signs_it_out_at_once(app: Litestar, client: AsyncClient) -> None:
    """Its access token fails on its next use; the others go on."""
    user = await add_user(app, "alice")
    here, there = await open_session(app, user.id), await open_session(app, user.id)
    other = next(session for session in await listed(client, here) if not session.current)
    assert await end(client, here, other.id) == 204
    assert [await status_of(client, pair) for pair in (here, there)] == [200, 401]
    assert await end(client, here, other.id) == 404


async def test_ending_the_current_session_signs_out_here(app: Litestar, client: AsyncClient) -> None:
    """The answer still comes."""
    pair = await new_user(app)
    (session,) = await listed(client, pair)
    assert await end(client, pair, session.id) == 204
    assert await status_of(client, pair) == 401


async def test_a_session_of_somebody_else_is_not_found(app: Litestar, client: AsyncClient) -> None:
    """It goes on, also when a superuser asks."""
    bob = await new_user(app, "bob")
    (session,) = await listed(client, bob)
    for pair in (await new_user(app, "alice"), await new_user(app, "root", is_superuser=True)):
        answer = await client.delete(f"/users/me/sessions/{session.id}", headers=bearer(pair))
        assert answer.status_code == 404
        assert answer.json()["detail"] == "Session not found"
    assert await status_of(client, bob) == 200


async def test_an_id_that_no_session_can_have_is_not_found(app: Litestar, client: AsyncClient) -> None:
    """The ids are no integers, or integers that no row has."""
    pair = await new_user(app)
    for name in ("0", "-1", "+1", "1_0", "x", 2**53, 2**63 - 1, 2**63):
        answer = await client.delete(f"/users/me/sessions/{name}", headers=bearer(pair))
        assert answer.status_code == 404, name


async def test_ending_all_others_leaves_the_current_session(app: Litestar, client: AsyncClient) -> None:
    """The sessions of other users stay, too."""
    user = await add_user(app, "alice")
    here, *others = [await open_session(app, user.id) for _ in range(3)]
    bob = await new_user(app, "bob")
    answer = await client.delete("/users/me/sessions", headers=bearer(here))
    assert answer.status_code == 204
    assert [await status_of(client, pair) for pair in (here, bob, *others)] == [200, 200, 401, 401]
    assert len(await listed(client, here)) == 1


async def test_use_is_noted_at_most_once_a_minute(app: Litestar, client: AsyncClient, statements: Statements) -> None:
    """Every other request is one query."""
    pair = await new_user(app)
    statements.clear()
    await status_of(client, pair)
    assert len(statements) == 1
    past = now() - timedelta(seconds=61)
    await execute(app, update(LoginSession).values(last_used_at=past))
    statements.clear()
    await status_of(client, pair)
    assert [statement.split()[0] for statement in statements] == ["SELECT", "UPDATE"]
    statements.clear()
    await status_of(client, pair)
    assert len(statements) == 1
    (row,) = await fetch(app, select(LoginSession.last_used_at))
    assert row.last_used_at > past + timedelta(seconds=60)


async def test_the_oldest_session_goes_when_there_are_too_many(app: Litestar, client: AsyncClient) -> None:
    """A user has a hundred sessions at most; the new one works, and other users' don't count."""
    bob = await new_user(app, "bob")
    user = await add_user(app, "alice")
    oldest = await open_session(app, user.id)
    await execute(app, update(LoginSession).values(created_at=now() - timedelta(days=2)))
    await fill(app, user.id, MAX_SESSIONS - 2)
    last = await open_session(app, user.id)
    assert await status_of(client, oldest) == 200
    pair = (await log_in(client, "alice")).json()
    assert [await status_of(client, one) for one in (pair, last, bob, oldest)] == [200, 200, 200, 401]
    assert len(await listed(client, pair)) == MAX_SESSIONS


async def test_logins_at_once_keep_to_the_limit(app: Litestar, client: AsyncClient) -> None:
    """None of them is lost, and none is too many."""
    user = await add_user(app, "alice")
    await fill(app, user.id, MAX_SESSIONS)
    pairs = await asyncio.gather(*(open_session(app, user.id) for _ in range(8)))
    assert [await status_of(client, pair) for pair in pairs] == [200] * 8
    assert (await fetch(app, COUNT))[0][0] == MAX_SESSIONS


async def test_a_session_that_has_ended_by_itself_is_not_listed(app: Litestar, client: AsyncClient) -> None:
    """It isn't listed even before it is cleaned up."""
    user = await add_user(app, "alice")
    await open_session(app, user.id)
    await execute(app, update(LoginSession).values(expires_at=now() - timedelta(seconds=1)))
    assert len(await listed(client, await open_session(app, user.id))) == 1


async def test_cleaning_up_deletes_only_what_has_ended_by_itself(
    app: Litestar, client: AsyncClient, database: Database
) -> None:
    user = await add_user(app, "alice")
    await fill(app, user.id, 3)
    await execute(app, update(LoginSession).values(expires_at=now() - timedelta(seconds=1)))
    pair = await open_session(app, user.id)
    sessions = SessionRepository(database)
    assert await sessions.purge() == 3
    assert await sessions.purge() == 0
    assert await status_of(client, pair) == 200


async def end(client: AsyncClient, pair: Pair, session_id: int) -> int:
    """End one session and return the status."""
    return (await client.delete(f"/users/me/sessions/{session_id}", headers=bearer(pair))).status_code


async def fill(app: Litestar, user_id: int, count: int) -> None:
    """Add rows of sessions that began yesterday."""
    moment = now() - timedelta(days=1)
    rows = [row(number, user_id, moment) for number in range(1, count + 1)]
    await execute(app, insert(LoginSession).values(rows))


def row(session_id: int, user_id: int, moment: datetime) -> dict[str, object]:
    """Return one session's columns."""
    return {
        "id": session_id,
        "user_id": user_id,
        "device": "tests",
        "address": "192.0.2.1",
        "generation": 0,
        "created_at": moment,
        "last_used_at": moment,
        "refreshed_at": moment,
        "expires_at": moment + timedelta(days=14),
    }
