"""Security events: each about logins, credentials and rights is one line and one row, and never has a secret."""

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from httpx import AsyncClient
from limits import RateLimitItemPerMinute
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from app.auth.models import LoginSession
from app.database.models import now
from app.history.repository import EventRepository
from app.http.feature import Parts
from app.logs import request_id
from app.main import create_app
from app.security.events import UndeclaredEvent
from app.settings import Settings
from app.users.feature import create_user_service
from app.users.models import User
from app.users.schemas import UserCreate
from tests.auth.oauth import Pair, bearer, client_from, execute, fetch, open_session, refresh, refreshed
from tests.events import ADDRESS, REQUEST, Event, Told, event
from tests.factories import PASSWORD, SECRET, add_user, connect_to, log_in, parts_of, register
from tests.outbox import deliver, token_in
from tests.programs import ROOT
from tests.users.undo import undo_token

NEW = "violet-umbrella-under-7-moons"


@pytest.fixture
def events(app: Litestar) -> Iterator[Told]:
    """A function that returns the security events since its last call, each with its line and its row."""
    with Told.by(app) as told:
        yield told


@pytest.fixture
def caller(client: AsyncClient, app: Litestar) -> AsyncClient:
    """A client with an address, and a name for its requests."""
    assert client.base_url.host == "test"  # The application runs.
    return client_from(app, ADDRESS, **{"X-Request-ID": REQUEST})


async def signed_in(
    app: Litestar, caller: AsyncClient, username: str = "alice", **columns: object
) -> tuple[Pair, Event]:
    """Add a user whose access token the caller uses from now on; return their login and an event's name for it."""
    user = await add_user(app, username, **columns)
    pair = await open_session(app, user.id)
    (row,) = await fetch(app, select(LoginSession.id).where(LoginSession.user_id == user.id))
    caller.headers.update(bearer(pair))
    return pair, {"user_id": user.id, "actor_id": user.id, "session_id": row.id}


def test_every_type_is_documented_and_tried(app: Litestar) -> None:
    """The page has all types that the features declare; for each, a test finds its line and its row."""
    declared = set(parts_of(app).events.types)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert set(re.findall(r'\bevent\(\s*"(\w+)"', tests)) == declared
    page = (ROOT / "docs" / "accounts.md").read_text().partition("\n## What is logged\n")[2]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))) == declared


async def test_registration_is_told(caller: AsyncClient, events: Told) -> None:
    """The new account is its own actor; a name that is taken makes no event."""
    for _ in range(2):
        await register(caller, "alice")
    assert await events() == [event("registration", user_id=1, actor_id=1, is_superuser=False)]


async def test_an_operators_command_is_told(parts: Parts, events: Told) -> None:
    """It has no actor, no client and no request."""
    request_id.set("")
    await create_user_service(parts).create(UserCreate("root", "root@example.org", PASSWORD), is_superuser=True)
    nobodys = {"address": None, "request_id": None}
    assert await events() == [event("registration", user_id=1, is_superuser=True, **nobodys)]


async def test_a_login_is_told_with_its_session(app: Litestar, caller: AsyncClient, events: Told) -> None:
    user = await add_user(app, "alice")
    await log_in(caller, "alice")
    (row,) = await fetch(app, select(LoginSession.id))
    assert await events() == [event("login", user_id=user.id, actor_id=user.id, session_id=row.id, amr="pwd")]


async def test_a_failed_login_is_told_without_the_name(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """The name may be a password that was typed in the wrong field, so the event has the user's id alone."""
    user = await add_user(app, "alice")
    await log_in(caller, "alice", password="wrong")
    await log_in(caller, PASSWORD)
    await execute(app, update(User).values(is_active=False))
    await log_in(caller, "alice")
    failed = [event("login_failed", user_id=user_id) for user_id in (user.id, None, user.id)]
    assert await events() == failed


async def test_each_login_over_the_limit_is_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """The event takes the place of the one that says that a login failed."""
    user = await add_user(app, "alice")
    for _ in range(11):
        await log_in(caller, "alice", password="wrong")
    await log_in(caller, "alice")
    failed = [event("login_failed", user_id=user.id)] * 10
    assert await events() == [*failed, *[event("login_limited", user_id=user.id)] * 2]


async def test_a_reused_refresh_token_is_told_once(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """An ordinary refresh is no event."""
    first, who = await signed_in(app, caller)
    last = await refreshed(caller, await refreshed(caller, first))
    await events()
    await asyncio.gather(*(refresh(caller, first) for _ in range(4)))
    whose = who | {"actor_id": None}
    reused, failed = event("refresh_token_reused", **whose), event("refresh_failed", **whose)
    told = await events()
    assert told.count(reused) == 1
    assert sorted(told, key=str) == sorted([reused, failed, failed, failed], key=str)
    await refresh(caller, last)
    assert await events() == [failed]


async def test_a_late_retry_is_a_reuse(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """A retry within ten seconds is no event."""
    first, who = await signed_in(app, caller)
    await refreshed(caller, first)
    await refreshed(caller, first)
    await events()
    await execute(app, update(LoginSession).values(refreshed_at=now() - timedelta(seconds=11)))
    await refresh(caller, first)
    assert await events() == [event("refresh_token_reused", **who | {"actor_id": None})]


async def test_a_logout_is_told_once(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """A token that is revoked again or is garbage makes no event."""
    pair, who = await signed_in(app, caller)
    await events()
    for _ in range(2):
        await caller.post("/revoke", data={"token": pair["refresh_token"]})
    await caller.post("/revoke", data={"token": "garbage"})
    assert await events() == [event("logout", **who)]


async def test_ended_sessions_are_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """The event says who ended which; a session that isn't found makes no event."""
    _, who = await signed_in(app, caller)
    for _ in range(3):
        await open_session(app, who["user_id"])
    query = select(LoginSession.id).where(LoginSession.id != who["session_id"])
    other = (await fetch(app, query))[0][0]
    await events()
    for _ in range(2):
        await caller.delete(f"/users/me/sessions/{other}")
    await caller.delete("/users/me/sessions")
    assert await events() == [
        event("session_ended", **who, ended_id=other),
        event("other_sessions_ended", **who, count=2),
    ]


async def test_a_changed_and_a_refused_password_are_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """The password is refused for a wrong current one; a new one that doesn't fit makes no event."""
    _, who = await signed_in(app, caller)
    await events()
    await caller.put("/users/me/password", json={"current_password": "wrong", "new_password": NEW})
    assert await events() == [event("password_refused", **who)]
    await caller.put("/users/me/password", json={"current_password": PASSWORD, "new_password": ""})
    assert await events() == []
    await caller.put("/users/me/password", json={"current_password": PASSWORD, "new_password": NEW})
    assert await events() == [event("password_changed", **who)]


async def test_a_reset_password_is_told_when_asked_for_and_when_done(
    app: Litestar, caller: AsyncClient, settings: Settings, events: Told
) -> None:
    """The address may be nobody's, so the event doesn't have it."""
    user = await add_user(app, "alice")
    await caller.post("/password-reset", json={"email": "alice@example.org"})
    await caller.post("/password-reset", json={"email": "nobody@example.org"})
    assert await events() == [event("password_reset_requested")] * 2
    (mail,) = await deliver(app, settings)
    await events()
    for _ in range(2):
        await caller.post("/password-reset/confirm", json={"token": token_in(mail), "new_password": NEW})
    assert await events() == [
        event("password_reset", user_id=user.id, actor_id=user.id),
        event("password_reset_failed"),
    ]


async def test_a_changed_address_and_its_verification_are_told(
    app: Litestar, caller: AsyncClient, settings: Settings, events: Told
) -> None:
    """A change of the name alone is no event."""
    _, who = await signed_in(app, caller)
    await events()
    await caller.patch("/users/me", json={"username": "alicia"})
    await caller.patch("/users/me", json={"email": "new@example.org", "current_password": PASSWORD})
    assert await events() == [event("address_changed", **who)]
    mails = {mail["To"]: mail for mail in await deliver(app, settings)}
    await events()
    for _ in range(2):
        await caller.post("/email-verification/confirm", json={"token": token_in(mails["new@example.org"])})
    assert await events() == [event("address_verified", user_id=who["user_id"], actor_id=who["user_id"])]


async def test_an_undone_change_of_the_address_is_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """The token works once."""
    user = await add_user(app, "alice")
    token = await undo_token(app, user.id)
    await events()
    for _ in range(2):
        await caller.post("/email-undo/confirm", json={"token": token})
    assert await events() == [
        event("address_restored", user_id=user.id, actor_id=user.id),
        event("address_undo_failed"),
    ]


async def test_changed_rights_are_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """The event has both users and the rights as they are now; a request that changes nothing makes none."""
    alice = await add_user(app, "alice")
    _, who = await signed_in(app, caller, "root", is_superuser=True)
    await events()
    for body in ({"is_superuser": True}, {"is_superuser": True}, {}, {"is_active": False}):
        await caller.patch(f"/users/{alice.id}", json=body)
    await caller.patch(f"/users/{who['user_id']}", json={"is_superuser": False})
    rights = event("rights_changed", **who | {"user_id": alice.id}, is_superuser=True)
    assert await events() == [rights | {"is_active": True}, rights | {"is_active": False}]


async def test_a_deleted_account_is_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """Its owner or a superuser deletes it."""
    alice = await add_user(app, "alice")
    _, who = await signed_in(app, caller, "root", is_superuser=True)
    _, bob = await signed_in(app, bob_caller := client_from(app, ADDRESS, **{"X-Request-ID": REQUEST}), "bob")
    await events()
    await caller.delete(f"/users/{alice.id}")
    await caller.delete(f"/users/{alice.id}")
    await bob_caller.delete("/users/me")
    deleted = [event("account_deleted", **who | {"user_id": alice.id}), event("account_deleted", **bob)]
    assert events.read_lines() == deleted
    assert await events.read_rows() == [line | {"address": None} for line in deleted]


async def test_repeats_and_refusals_have_so_many_rows_and_all_lines(
    app: Litestar, caller: AsyncClient, events: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has something refused for ever fills no table; another network's refusals have rows of their own."""
    monkeypatch.setattr("app.security.events.REFUSALS", RateLimitItemPerMinute(3, 15, namespace="few"))
    first, who = await signed_in(app, caller)
    await refreshed(caller, first)
    await events()
    for _ in range(4):
        await refreshed(caller, first)
    await refresh(client_from(app, "198.51.100.9"), first)
    repeated = event("refresh_repeated", **who | {"actor_id": None})
    told, rows = events.read_lines(), await events.read_rows()
    assert told[:4] == [repeated] * 4
    assert rows == [*told[:3], told[4]]


async def test_what_is_rolled_back_leaves_no_line_and_no_row(parts: Parts, app: Litestar, events: Told) -> None:
    """The event is a part of the transaction."""
    user = await add_user(app, "alice")

    async def fail() -> None:
        async with parts.database.transaction() as transaction:
            await parts.events.record(transaction, "login", None, user_id=user.id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await events() == []


async def test_without_its_row_nothing_is_done_and_no_line_is_there(
    app: Litestar, client: AsyncClient, caller: AsyncClient, events: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change fails when its event can't be kept, and so does a refusal: with 503, as for every outage."""
    assert client.base_url.host == "test"  # The application runs.
    pair, _ = await signed_in(app, caller)
    await events()

    async def away(*_: object) -> None:
        raise OperationalError("INSERT", None, OSError())

    monkeypatch.setattr(EventRepository, "keep", away)
    answers = [
        await log_in(caller, "alice"),
        await log_in(caller, "alice", password="wrong"),
        await register(caller, "bob"),
        await caller.post("/revoke", data={"token": pair["refresh_token"]}),
    ]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert (await caller.get("/users/me")).status_code == 200
    assert [row.username for row in await fetch(app, select(User.username))] == ["alice"]
    assert len(await fetch(app, select(LoginSession.id))) == 1
    assert await events() == []


def test_an_undeclared_type_is_a_bug(app: Litestar) -> None:
    with pytest.raises(UndeclaredEvent):
        asyncio.run(parts_of(app).events.record_alone("looked_at", None))


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
