"""Factors of an account whose owner takes it back, as by a new password, while another's request is on its way."""

from collections.abc import Awaitable, Callable

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import delete, select

from app.auth.models import LoginSession
from app.factors.models import Passkey, RecoveryCode, Totp
from app.factors.policy import Policy
from tests.auth.oauth import execute, fetch
from tests.factors.authenticator import Authenticator
from tests.factors.totp import code_of, enrol
from tests.problems import assert_problem

Request = Callable[[], Awaitable[Response]]


async def stored(app: Litestar) -> list[object]:
    """Return the rows of all factors."""
    codes = select(RecoveryCode.digest).order_by(RecoveryCode.digest)
    return [await fetch(app, select(Totp.confirmed_at)), await fetch(app, select(Passkey.id)), await fetch(app, codes)]


async def add_passkey(_app: Litestar, alice: AsyncClient) -> Request:
    """Return the request that adds a passkey."""
    options = (await alice.post("/users/me/passkeys/options")).json()
    body = {"name": "Telephone", "credential": Authenticator().create(options)}
    return lambda: alice.post("/users/me/passkeys", json=body)


async def remove_passkey(_app: Litestar, alice: AsyncClient) -> Request:
    """Return the request that removes a passkey."""
    passkey = (await Authenticator().add_to(alice)).json()["id"]
    return lambda: alice.delete(f"/users/me/passkeys/{passkey}")


async def confirm_app(_app: Litestar, alice: AsyncClient) -> Request:
    """Return the request that makes a pending secret a factor."""
    body = {"code": code_of((await alice.post("/users/me/totp")).json()["secret"])}
    return lambda: alice.post("/users/me/totp/confirm", json=body)


async def remove_app(app: Litestar, alice: AsyncClient) -> Request:
    """Return the request that removes an authenticator app."""
    await enrol(app, alice)
    return lambda: alice.delete("/users/me/totp")


async def replace_codes(app: Litestar, alice: AsyncClient) -> Request:
    """Return the request for new recovery codes."""
    await enrol(app, alice)
    return lambda: alice.post("/users/me/recovery-codes")


@pytest.mark.parametrize("prepare", [add_passkey, remove_passkey, confirm_app, remove_app, replace_codes])
async def test_a_session_that_has_ended_changes_no_factor_by_a_request_on_its_way(
    app: Litestar,
    alice: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Litestar, AsyncClient], Awaitable[Request]],
) -> None:
    """The guard has let it in already. A factor of the thief's would lock the owner out, or let the thief in again."""
    send = await prepare(app, alice)
    before, check = await stored(app), Policy.check_change

    async def check_and_lose(*arguments: object) -> None:
        await check(*arguments)  # type: ignore[arg-type] # the method's own
        await execute(app, delete(LoginSession))

    monkeypatch.setattr(Policy, "check_change", check_and_lose)
    assert_problem(await send(), 401, "Could not validate credentials")
    assert await stored(app) == before
