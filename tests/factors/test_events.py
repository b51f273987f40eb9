"""Security events about second factors: each is told once, with its line and its row."""

from collections.abc import Iterator

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select

from app.auth.models import LoginSession
from app.factors.feature import create_factor_reset
from app.http.feature import Parts
from app.logs import request_id
from tests.auth.oauth import bearer, client_from, fetch, open_session
from tests.events import ADDRESS, REQUEST, Event, Told, event
from tests.factories import PASSWORD, add_user
from tests.factors.authenticator import Authenticator
from tests.factors.totp import code_of, enrol, log_in_with, wrong_code_of


@pytest.fixture
def events(app: Litestar) -> Iterator[Told]:
    """A function that returns the security events since its last call."""
    with Told.by(app) as told:
        yield told


async def signed_in(app: Litestar) -> tuple[AsyncClient, Event]:
    """Add alice, and return a client of hers with the ids of its events."""
    user = await add_user(app, "alice")
    pair = await open_session(app, user.id)
    (row,) = await fetch(app, select(LoginSession.id))
    client = client_from(app, ADDRESS, **bearer(pair), **{"X-Request-ID": REQUEST})
    return client, {"user_id": user.id, "actor_id": user.id, "session_id": row.id}


@pytest.mark.usefixtures("client")
async def test_what_happens_to_an_authenticator_app_is_told(app: Litestar, events: Told) -> None:
    """A wrong code at a sign-in says so; nothing tells a code."""
    alice, who = await signed_in(app)
    account = {"user_id": who["user_id"], "actor_id": who["actor_id"]}
    _, codes = await enrol(app, alice)
    events.read_lines()
    await events.read_rows()
    await alice.post("/users/me/recovery-codes")
    assert await events() == [event("recovery_codes_replaced", **who)]
    assert (await log_in_with(alice, codes[0])).status_code == 401
    assert await events() == [event("login_failed", user_id=who["user_id"], factor="otp")]
    codes = (await alice.post("/users/me/recovery-codes")).json()["recovery_codes"]
    await events()
    await log_in_with(alice, codes[0])
    used, login = await events()
    assert used == event("recovery_code_used", **account)
    assert (login["event"], login["amr"]) == ("login", "pwd otp mfa")
    await alice.delete("/users/me/totp")
    assert await events() == [event("totp_removed", **who)]
    secret = (await alice.post("/users/me/totp")).json()["secret"]
    await alice.post("/users/me/totp/confirm", json={"code": wrong_code_of(secret)})
    await alice.post("/users/me/totp/confirm", json={"code": code_of(secret)})
    assert await events() == [event("code_refused", **who), event("totp_added", **who)]


@pytest.mark.usefixtures("client")
async def test_an_operators_reset_is_told(app: Litestar, parts: Parts, events: Told) -> None:
    """It has no actor, no client and no request."""
    alice, who = await signed_in(app)
    await enrol(app, alice)
    events.read_lines()
    request_id.set("")
    assert await create_factor_reset(parts).remove_all("ALICE@example.org") == who["user_id"]
    (told,) = events.read_lines()
    assert event("factors_reset", user_id=who["user_id"], address=None) == told | {"request_id": REQUEST}
    assert (await alice.get("/users/me")).status_code == 401


@pytest.mark.usefixtures("client")
async def test_what_happens_to_a_passkey_is_told(app: Litestar, events: Told) -> None:
    """A refused one says so as a refused login does."""
    alice, who = await signed_in(app)
    await events()
    device, stranger = Authenticator(), client_from(app, ADDRESS, **{"X-Request-ID": REQUEST})
    added = (await device.add_to(alice)).json()
    assert await events() == [event("passkey_added", passkey_id=added["id"], **who)]
    await device.sign_in(stranger)
    (login,) = await events()
    assert (login["event"], login["amr"]) == ("login", "pop user mfa")
    await alice.delete(f"/users/me/passkeys/{added['id']}")
    assert await events() == [event("passkey_removed", passkey_id=added["id"], **who)]
    await device.sign_in(stranger)
    assert await events() == [event("login_failed", factor="passkey")]


@pytest.mark.usefixtures("client")
async def test_proofs_in_a_session_are_told(app: Litestar, events: Told) -> None:
    alice, who = await signed_in(app)
    secret, codes = await enrol(app, alice)
    await events()
    for otp in (wrong_code_of(secret), codes[0]):
        await alice.post("/users/me/reauthentication", json={"password": PASSWORD, "otp": otp})
    refused, used, proved = await events()
    assert refused == event("proof_refused", factor="otp", **who)
    assert used["event"] == "recovery_code_used"
    assert proved == event("reauthenticated", amr="pwd otp mfa", **who)
