"""The security log: each event about logins, credentials and rights is told once, and never a secret."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update
from structlog.testing import capture_logs

from app.auth.models import LoginSession
from app.database.models import now
from app.logs import add_request_id
from app.main import create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import Pair, bearer, client_from, execute, fetch, open_session, refresh, refreshed
from tests.factories import PASSWORD, SECRET, add_user, connect_to, log_in, parts_of
from tests.outbox import deliver, token_in

Event = dict[str, Any]
Events = Callable[[], list[Event]]
ADDRESS = "203.0.113.7"
REQUEST = "request-of-the-test"
NEW = "violet-umbrella-under-7-moons"


@pytest.fixture
def events(app: Litestar) -> Iterator[Events]:
    """A function that returns the security events since its last call, each with the id of its request."""
    assert parts_of(app).settings.log_level == "INFO"  # The application is there, and has configured the log.
    with capture_logs(processors=[add_request_id]) as lines:

        def read() -> list[Event]:
            told = [{**line} for line in lines if line.get("kind") == "security"]
            lines.clear()
            for line in told:
                assert (line.pop("log_level"), line.pop("kind")) == ("info", "security")
            return told

        yield read


@pytest.fixture
def caller(client: AsyncClient, app: Litestar) -> AsyncClient:
    """A client with an address, and a name for its requests."""
    assert client.base_url.host == "test"  # The application runs.
    return client_from(app, ADDRESS, **{"X-Request-ID": REQUEST})


def event(name: str, **fields: object) -> Event:
    """Return an event, with what every event has and these fields."""
    return {"event": name, "address": ADDRESS, "request_id": REQUEST, **fields}


async def signed_in(
    app: Litestar, caller: AsyncClient, username: str = "alice", **columns: object
) -> tuple[Pair, Event]:
    """Add a user whose access token the caller uses from now on; return their login and an event's name for it."""
    user = await add_user(app, username, **columns)
    pair = await open_session(app, user.id)
    (row,) = await fetch(app, select(LoginSession.id).where(LoginSession.user_id == user.id))
    caller.headers.update(bearer(pair))
    return pair, {"user_id": user.id, "session_id": row.id}


async def test_a_login_is_told_with_its_session(app: Litestar, caller: AsyncClient, events: Events) -> None:
    user = await add_user(app, "alice")
    await log_in(caller, "alice")
    (row,) = await fetch(app, select(LoginSession.id))
    assert events() == [event("login", user_id=user.id, session_id=row.id)]


async def test_a_failed_login_is_told_without_the_name(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """The name may be a password that was typed in the wrong field, so the event has the user's id alone."""
    user = await add_user(app, "alice")
    await log_in(caller, "alice", password="wrong")
    await log_in(caller, PASSWORD)
    await execute(app, update(User).values(is_active=False))
    await log_in(caller, "alice")
    failed = [event("login_failed", user_id=user_id) for user_id in (user.id, None, user.id)]
    assert events() == failed


async def test_each_login_over_the_limit_is_told(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """The event takes the place of the one that says that a login failed."""
    user = await add_user(app, "alice")
    for _ in range(11):
        await log_in(caller, "alice", password="wrong")
    await log_in(caller, "alice")
    failed = [event("login_failed", user_id=user.id)] * 10
    assert events() == [*failed, *[event("login_limited", user_id=user.id)] * 2]


async def test_a_reused_refresh_token_is_told_once(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """An ordinary refresh is no event."""
    first, who = await signed_in(app, caller)
    last = await refreshed(caller, await refreshed(caller, first))
    events()
    await asyncio.gather(*(refresh(caller, first) for _ in range(4)))
    reused, failed = event("refresh_token_reused", **who), event("refresh_failed", **who)
    told = events()
    assert told.count(reused) == 1
    assert sorted(told, key=str) == sorted([reused, failed, failed, failed], key=str)
    await refresh(caller, last)
    assert events() == [failed]


async def test_a_late_retry_is_a_reuse(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """A retry within ten seconds is no event."""
    first, who = await signed_in(app, caller)
    await refreshed(caller, first)
    await refreshed(caller, first)
    events()
    await execute(app, update(LoginSession).values(refreshed_at=now() - timedelta(seconds=11)))
    await refresh(caller, first)
    assert events() == [event("refresh_token_reused", **who)]


async def test_a_logout_is_told_once(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """A token that is revoked again or is garbage makes no event."""
    pair, who = await signed_in(app, caller)
    events()
    for _ in range(2):
        await caller.post("/revoke", data={"token": pair["refresh_token"]})
    await caller.post("/revoke", data={"token": "garbage"})
    assert events() == [event("logout", **who)]


async def test_ended_sessions_are_told(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """The event says who ended which; a session that isn't found makes no event."""
    _, who = await signed_in(app, caller)
    for _ in range(3):
        await open_session(app, who["user_id"])
    query = select(LoginSession.id).where(LoginSession.id != who["session_id"])
    other = (await fetch(app, query))[0][0]
    events()
    for _ in range(2):
        await caller.delete(f"/users/me/sessions/{other}")
    await caller.delete("/users/me/sessions")
    assert events() == [event("session_ended", **who, ended_id=other), event("other_sessions_ended", **who, count=2)]


async def test_a_changed_and_a_refused_password_are_told(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """The password is refused for a wrong current one; a new one that doesn't fit makes no event."""
    _, who = await signed_in(app, caller)
    events()
    await caller.put("/users/me/password", json={"current_password": "wrong", "new_password": NEW})
    assert events() == [event("password_refused", **who)]
    await caller.put("/users/me/password", json={"current_password": PASSWORD, "new_password": ""})
    assert events() == []
    await caller.put("/users/me/password", json={"current_password": PASSWORD, "new_password": NEW})
    assert events() == [event("password_changed", **who)]


async def test_a_reset_password_is_told_when_asked_for_and_when_done(
    app: Litestar, caller: AsyncClient, settings: Settings, events: Events
) -> None:
    """The address may be nobody's, so the event doesn't have it."""
    user = await add_user(app, "alice")
    await caller.post("/password-reset", json={"email": "alice@example.org"})
    await caller.post("/password-reset", json={"email": "nobody@example.org"})
    assert events() == [event("password_reset_requested")] * 2
    (mail,) = await deliver(app, settings)
    events()
    for _ in range(2):
        await caller.post("/password-reset/confirm", json={"token": token_in(mail), "new_password": NEW})
    assert events() == [event("password_reset", user_id=user.id), event("password_reset_failed")]


async def test_a_changed_address_and_its_verification_are_told(
    app: Litestar, caller: AsyncClient, settings: Settings, events: Events
) -> None:
    """A change of the name alone is no event."""
    _, who = await signed_in(app, caller)
    events()
    await caller.patch("/users/me", json={"username": "alicia"})
    await caller.patch("/users/me", json={"email": "new@example.org", "current_password": PASSWORD})
    assert events() == [event("address_changed", **who)]
    mails = {mail["To"]: mail for mail in await deliver(app, settings)}
    events()
    for _ in range(2):
        await caller.post("/email-verification/confirm", json={"token": token_in(mails["new@example.org"])})
    assert events() == [event("address_verified", user_id=who["user_id"])]


async def test_changed_rights_are_told(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """The event has both users and the rights as they are now; a request that changes nothing makes none."""
    alice = await add_user(app, "alice")
    _, who = await signed_in(app, caller, "root", is_superuser=True)
    events()
    for body in ({"is_superuser": True}, {"is_superuser": True}, {}, {"is_active": False}):
        await caller.patch(f"/users/{alice.id}", json=body)
    await caller.patch(f"/users/{who['user_id']}", json={"is_superuser": False})
    rights = event("rights_changed", **who, of=alice.id, is_superuser=True)
    assert events() == [rights | {"is_active": True}, rights | {"is_active": False}]


async def test_a_deleted_account_is_told(app: Litestar, caller: AsyncClient, events: Events) -> None:
    """Its owner or a superuser deletes it."""
    alice = await add_user(app, "alice")
    _, who = await signed_in(app, caller, "root", is_superuser=True)
    _, bob = await signed_in(app, bob_caller := client_from(app, ADDRESS, **{"X-Request-ID": REQUEST}), "bob")
    events()
    await caller.delete(f"/users/{alice.id}")
    await caller.delete(f"/users/{alice.id}")
    await bob_caller.delete("/users/me")
    assert events() == [
        event("account_deleted", **who, of=alice.id),
        event("account_deleted", **bob, of=bob["user_id"]),
    ]


async def test_no_secret_is_ever_printed(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """No password, token or address is, whether what came was good, wrong or no JSON at all."""
    # Made here: what is printed while a fixture is made goes elsewhere.
    app = create_app(replace(settings, environment="production", log_level="DEBUG"))
    async with connect_to(app) as client:
        secrets = await use_everything(app, client, settings)
    text = capsys.readouterr().out
    assert "password_changed" in text
    for secret in secrets:
        assert secret not in text


async def use_everything(app: Litestar, client: AsyncClient, settings: Settings) -> list[str]:
    """Send passwords and tokens to wherever they can go, and return them."""
    pair, _ = await signed_in(app, client)
    for path in ("/token", "/revoke"):
        for value in (pair["refresh_token"], "wrong-guess", "wrong-guess\0"):
            form = {"token": value, "refresh_token": value, "username": value, "password": value}
            await client.post(path, data=form)
            await client.post(path, data=form | {"grant_type": "refresh_token"})
    second = (await log_in(client, "alice")).json()
    client.headers.update(bearer(second))
    json = {"Content-Type": "application/json"}
    await client.post("/users/", json={"username": "bob", "email": "bob@example.org", "password": NEW})
    await client.post("/users/", json={"username": "bob", "email": "bob@example.org", "password": ["wrong-guess"]})
    await client.post("/users/", content='{"password": "wrong-guess', headers=json)
    await client.get("/items/?q=wrong-guess&access_token=wrong-guess")
    await client.get("/users/me", headers={"Authorization": "Bearer wrong-guess"})
    for current in ("wrong-guess", PASSWORD):
        await client.put("/users/me/password", json={"current_password": current, "new_password": NEW})
    await client.post("/password-reset", json={"email": "alice@example.org"})
    mailed = [token_in(mail) for mail in await deliver(app, settings) if "#token=" in mail.get_content()]
    assert len(mailed) == 2
    for token in (*mailed, "wrong-guess"):
        await client.post("/email-verification/confirm", json={"token": token})
        await client.post("/password-reset/confirm", json={"token": token, "new_password": PASSWORD})
    issued = [one[name] for one in (pair, second) for name in ("access_token", "refresh_token")]
    return [PASSWORD, NEW, SECRET, "wrong-guess", "alice@example.org", "bob@example.org", *issued, *mailed]
