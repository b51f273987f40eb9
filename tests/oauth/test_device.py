"""Devices that are let in from elsewhere: the codes, the waiting, and who may answer."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import update

from app.database.models import now
from app.errors import TooManyRequests
from app.main import create_app
from app.oauth.clients import DEVICE_GRANT, Registered
from app.oauth.devices.repository import DeviceRepository, StoredDevice
from app.oauth.devices.service import DeviceService, UnknownUserCode
from app.oauth.feature import OAuthParts, create_device_service
from app.oauth.models import DeviceCode
from app.settings import Settings
from tests.auth.oauth import bearer, execute, refresh
from tests.factories import connect_to, on_sqlite, parts_of
from tests.oauth.flow import BROWSER, DEVICE, Person, add_client, credentials, id_claims, needs_own_keys, new_person

SCOPE = "openid offline_access items:read"


async def begin(client: AsyncClient, application: Registered) -> dict[str, Any]:
    """Return the codes of a device that begins to wait."""
    answer = await client.post("/device_authorization", data={"scope": SCOPE, **credentials(application)})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    codes: dict[str, Any] = answer.json()
    return codes


async def ask(client: AsyncClient, application: Registered, codes: dict[str, Any]) -> Response:
    """Ask for the tokens of a device, as if it had waited."""
    data = {"grant_type": DEVICE_GRANT, "device_code": codes["device_code"], **credentials(application)}
    return await client.post("/token", data=data)


async def wait(app: Litestar) -> None:
    """Let the time pass that a device has to wait."""
    await execute(app, update(DeviceCode).values(asked_at=now() - timedelta(minutes=1)))


def devices_of(app: Litestar) -> DeviceService:
    """Return the service that lets devices in."""
    return create_device_service(parts_of(app), OAuthParts(parts_of(app)))


async def answer(person: Person, code: str, *, is_allowed: bool = True) -> None:
    """Type a code, and answer the question that follows."""
    devices = devices_of(person.app)
    device = await devices.find(code, person.user)
    await devices.answer(device, person.user, BROWSER, is_allowed=is_allowed)


@needs_own_keys
async def test_a_person_lets_a_device_in(app: Litestar, client: AsyncClient) -> None:
    """However the code is typed; the device gets its tokens once."""
    application, person = await add_client(app, **DEVICE), await new_person(app)
    codes = await begin(client, application)
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    assert codes["verification_uri"].endswith("/account/device")
    assert codes["verification_uri_complete"] == f"{codes['verification_uri']}?code={codes['user_code']}"
    await wait(app)
    assert (await ask(client, application, codes)).json()["error"] == "authorization_pending"
    await answer(person, f" {codes['user_code'].lower().replace('-', ' ')} ")
    answers = await asyncio.gather(*(ask(client, application, codes) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    tokens = next(answer.json() for answer in answers if answer.is_success)
    assert tokens["scope"] == SCOPE
    claims = await id_claims(client, application, tokens)
    assert (claims["sub"], claims["amr"], "nonce" in claims) == (str(person.user.id), ["pwd"], False)
    assert (await client.get("/items/", headers=bearer(tokens))).status_code == 200
    assert (await refresh(client, tokens, **credentials(application))).status_code == 200
    assert (await ask(client, application, codes)).json()["error"] == "expired_token"


async def test_a_device_that_asks_too_often_has_to_wait_longer(app: Litestar, client: AsyncClient) -> None:
    application = await add_client(app, **DEVICE)
    codes = await begin(client, application)
    assert [(await ask(client, application, codes)).json()["error"] for _ in range(2)] == ["slow_down"] * 2
    await execute(app, update(DeviceCode).values(asked_at=now() - timedelta(seconds=12)))
    assert (await ask(client, application, codes)).json()["error"] == "slow_down"
    await execute(app, update(DeviceCode).values(asked_at=now() - timedelta(seconds=21)))
    assert (await ask(client, application, codes)).json()["error"] == "authorization_pending"


async def test_a_no_a_late_question_and_another_application_get_nothing(app: Litestar, client: AsyncClient) -> None:
    application, other, person = await add_client(app, **DEVICE), await add_client(app, **DEVICE), await new_person(app)
    codes = await begin(client, application)
    await answer(person, codes["user_code"], is_allowed=False)
    assert (await ask(client, other, codes)).json()["error"] == "expired_token"
    assert (await ask(client, application, codes)).json()["error"] == "access_denied"
    late = await begin(client, application)
    await execute(app, update(DeviceCode).values(expires_at=now()))
    assert (await ask(client, application, late)).json()["error"] == "expired_token"
    with pytest.raises(UnknownUserCode):
        await answer(person, late["user_code"])


async def test_the_first_answer_counts(app: Litestar, client: AsyncClient) -> None:
    """Nobody else takes over a device that a person has let in, even if they had typed the code before."""
    application = await add_client(app, **DEVICE)
    alice, mallory = await new_person(app), await new_person(app, "mallory")
    codes = await begin(client, application)
    devices = devices_of(app)
    typed = await devices.find(codes["user_code"], mallory.user)
    await answer(alice, codes["user_code"])
    with pytest.raises(UnknownUserCode):
        await devices.answer(typed, mallory.user, BROWSER, is_allowed=True)
    with pytest.raises(UnknownUserCode):
        await answer(mallory, codes["user_code"])
    tokens = (await ask(client, application, codes)).json()
    headers = bearer(tokens)
    assert (await client.get("/items/", headers=headers)).status_code == 200
    introspected = await add_client(app)
    told = await client.post("/introspect", data={"token": tokens["access_token"], **credentials(introspected)})
    assert told.json()["sub"] == str(alice.user.id)


async def test_wrong_codes_are_limited_by_person(app: Litestar, client: AsyncClient) -> None:
    """Then a right one isn't looked at either, and somebody else may still type it."""
    application = await add_client(app, **DEVICE)
    alice, bob = await new_person(app), await new_person(app, "bob")
    codes = await begin(client, application)
    devices = devices_of(app)
    for number in range(10):
        with pytest.raises(UnknownUserCode):
            await devices.find("BCDFGHJK"[number % 8 :] + "B" * (number % 8), alice.user)
    with pytest.raises(TooManyRequests):
        await devices.find(codes["user_code"], alice.user)
    await devices.find(codes["user_code"], bob.user)


async def test_guesses_at_once_are_limited_too(
    app: Litestar, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right code among them counts for nothing, once ten others were wrong while it was looked up."""
    application, alice = await add_client(app, **DEVICE), await new_person(app)
    codes = await begin(client, application)
    devices, waiting = devices_of(app), DeviceRepository.waiting

    async def wait_for_the_others(self: DeviceRepository, user_code: str, moment: datetime) -> StoredDevice | None:
        device = await waiting(self, user_code, moment)
        if device:
            guesses = (devices.find("BBBBBBBB", alice.user) for _ in range(10))
            await asyncio.gather(*guesses, return_exceptions=True)
        return device

    monkeypatch.setattr(DeviceRepository, "waiting", wait_for_the_others)
    with pytest.raises(TooManyRequests):
        await devices.find(codes["user_code"], alice.user)


async def test_an_application_that_has_no_devices_is_refused(app: Litestar, client: AsyncClient) -> None:
    application = await add_client(app)
    refused = await client.post("/device_authorization", data=credentials(application))
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")
    unknown = await client.post("/device_authorization", data={"client_id": "unknown"})
    assert (unknown.status_code, unknown.json()["error"]) == (401, "invalid_client")
    devices = await add_client(app, **DEVICE)
    more = await client.post("/device_authorization", data={**credentials(devices), "scope": "users:read"})
    assert more.json()["error"] == "invalid_scope"


@on_sqlite
async def test_without_pages_no_device_is_told_to_wait(settings: Settings) -> None:
    """Nobody could type its code, also where mails lead to pages of the operator's own."""
    app = create_app(replace(settings, account_pages=False, account_url="https://pages.example.com/me"))
    async with connect_to(app) as client:
        application = await add_client(app, **DEVICE)
        server = (await client.get("/.well-known/oauth-authorization-server")).json()
        assert "device_authorization_endpoint" not in server
        assert DEVICE_GRANT not in server["grant_types_supported"]
        data = {"grant_type": DEVICE_GRANT, "device_code": "x", **credentials(application)}
        assert (await client.post("/token", data=data)).json()["error"] == "unsupported_grant_type"
        assert (await client.post("/device_authorization", data=credentials(application))).status_code == 404
        assert "/device_authorization" not in (await client.get("/openapi.json")).json()["paths"]
