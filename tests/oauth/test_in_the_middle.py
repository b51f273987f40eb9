"""What changes while an application is at work: keys are rotated, the application is removed, its session is ended."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import delete, update
from structlog.testing import capture_logs

from app.auth.models import LoginSession
from app.auth.service import InvalidClient, InvalidRefreshToken
from app.oauth.authorization import AuthorizationService
from app.oauth.clients import CREDENTIALS_GRANT, DEVICE_GRANT
from app.oauth.codes.repository import CodeRepository
from app.oauth.codes.service import InvalidCode
from app.oauth.devices.service import DeviceCodeExpired, DeviceService
from app.oauth.models import OAuthClient, OAuthGrant
from app.security.signing.algorithms import GENERATORS
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import Pair, bearer, execute, refresh
from tests.auth.signing import kid, running, wait
from tests.factories import add_user, parts_of
from tests.oauth.browsers import allow, answer_of, authorize, browser_of, code_by_browser, new_browser
from tests.oauth.flow import (
    BROWSER,
    CALLBACK,
    DEVICE,
    VERIFIER,
    add_client,
    credentials,
    exchange,
    id_claims,
    new_code,
    new_person,
    new_tokens,
)
from tests.oauth.test_client_credentials import OWN
from tests.oauth.test_device import answer, begin
from tests.pages.person import Page

pytestmark = pytest.mark.usefixtures("client")  # The application runs, and its connections are closed at the end.
MINUTE = timedelta(minutes=1)


async def items_status(client: AsyncClient, tokens: Pair) -> int:
    """Return the status of a call of the API with the tokens."""
    return (await client.get("/items/", headers=bearer(tokens))).status_code


# Keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_keys_are_rotated_between_the_code_and_the_tokens(
    settings: Settings, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old key has signed stays good until it expires, and no application notices anything."""
    # The tests have one key for RS256 otherwise; a shorter one is made faster.
    monkeypatch.setitem(GENERATORS, "RS256", partial(rsa.generate_private_key, public_exponent=65537, key_size=2048))
    async with running(settings, algorithm=algorithm) as (app, client):
        application, person = await add_client(app, id_token_signed_response_alg=algorithm), await new_person(app)
        before, code = await new_tokens(client, person, application), await new_code(person, application)
        await parts_of(app).signing_keys.rotate()
        await wait(app)
        after = (await exchange(client, application, code)).json()
        for kind in ("access_token", "id_token"):
            assert kid(before[kind]) != kid(after[kind])
        assert kid(after["access_token"]) == kid(after["id_token"])
        for tokens in (before, after):
            assert (await id_claims(client, application, tokens))["sub"] == str(person.user.id)
            assert await items_status(client, tokens) == 200
            told = await client.post("/introspect", data={"token": tokens["access_token"], **credentials(application)})
            assert told.json()["active"]
        renewed = (await refresh(client, before, **credentials(application))).json()
        assert kid(renewed["id_token"]) == kid(after["id_token"])
        await wait(app, timedelta(minutes=settings.access_token_expire_minutes) + 2 * MINUTE)
        published = (await client.get("/.well-known/jwks.json")).json()["keys"]
        assert kid(before["id_token"]) not in {key["kid"] for key in published}
        assert await id_claims(client, application, after)


# The application ------------------------------------------------------------------------------------------------------


async def test_an_application_is_removed_while_somebody_is_asked(app: Litestar, client: AsyncClient) -> None:
    """The person is told, since nobody may be redirected any more."""
    application, browser = await add_client(app), await new_browser(app)
    page = await authorize(browser, application)
    await execute(app, delete(OAuthClient))
    answered = await allow(browser, page)
    assert (answered.status_code, "location" in answered.headers) == (400, False)
    assert (await client.get("/authorize", params={"client_id": application.client.client_id})).status_code == 400


async def test_an_application_is_removed_once_it_has_proved_who_it_is(app: Litestar, client: AsyncClient) -> None:
    """Each way to get tokens refuses it by an error of OAuth; none is a fault, and nothing of it is left."""
    person = await new_person(app)
    grants = [DEVICE_GRANT, CREDENTIALS_GRANT, "authorization_code", "refresh_token"]
    own = await add_client(app, grant_types=grants, scopes=[*OWN["scopes"], "openid", "offline_access"])
    tokens, code = await new_tokens(client, person, own), await new_code(person, own)
    waiting = await begin(client, own)
    await answer(person, waiting["user_code"])
    ways = parts_of(app).grants
    await execute(app, delete(OAuthClient))
    for kind, form, error in (
        ("authorization_code", {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}, InvalidCode),
        ("refresh_token", {"refresh_token": tokens["refresh_token"]}, InvalidRefreshToken),
        (DEVICE_GRANT, {"device_code": waiting["device_code"]}, DeviceCodeExpired),
        (CREDENTIALS_GRANT, {}, InvalidClient),
    ):
        with pytest.raises(error):
            await ways[kind].answer(form, BROWSER, own.client)
    assert await items_status(client, tokens) == 401


# The browser's session, and the database ------------------------------------------------------------------------------


def sign_out_before(monkeypatch: pytest.MonkeyPatch, app: Litestar, service: type, method: str) -> None:
    """End all sessions when a service's method is called, which knows of none of that."""
    act = getattr(service, method)

    async def sign_out_and_act(*arguments: Any, **named: Any) -> object:  # noqa: ANN401 - the method's
        await execute(app, delete(LoginSession))
        return await act(*arguments, **named)

    monkeypatch.setattr(service, method, sign_out_and_act)


@pytest.mark.in_process("that reach into the application's process")
async def test_the_session_ends_before_the_code_is_made(app: Litestar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person signs in and comes back; an application that wants no question is told."""
    application = await add_client(app, first_party=True)
    user_id = (await add_user(app, "alice")).id
    sign_out_before(monkeypatch, app, AuthorizationService, "approve")
    silent = answer_of(await authorize(await browser_of(app, user_id), application, prompt="none"))
    assert (silent["error"], "code" in silent) == ("login_required", False)
    browser = await browser_of(app, user_id)
    sent = await authorize(browser, application)
    assert sent.status_code == 303
    assert sent.headers["location"].startswith("/account/sign-in?next=%2Fauthorize%3F")
    assert (await browser.get(sent.headers["location"])).status_code == 200


@pytest.mark.in_process("that reach into the application's process")
async def test_the_session_ends_before_a_device_is_let_in(
    app: Litestar, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, browser = await add_client(app, **DEVICE), await new_browser(app)
    code = (await begin(client, application))["user_code"]
    form = Page(await browser.get("/account/device")).form
    sign_out_before(monkeypatch, app, DeviceService, "answer")
    sent = await browser.post("/account/device", data={**form.fields, "code": code, "decision": "allow"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/account/sign-in?next=%2Faccount%2Fdevice")


@pytest.mark.in_process("that reach into the application's process")
@pytest.mark.parametrize(
    ("failure", "error", "event"),
    [
        (TimeoutError, "temporarily_unavailable", "service unavailable"),
        (ZeroDivisionError, "server_error", "unhandled exception"),
    ],
)
async def test_an_application_is_told_of_a_failure(
    app: Litestar, monkeypatch: pytest.MonkeyPatch, failure: type[Exception], error: str, event: str
) -> None:
    """It waits for an answer at its redirect URI, and the operator finds a line in the log."""
    application, browser = await add_client(app), await new_browser(app)
    page = await authorize(browser, application)
    await code_by_browser(browser, application)

    async def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(CodeRepository, "create", fail)
    for send in (partial(authorize, browser, application), partial(allow, browser, page)):
        with capture_logs() as lines:
            told = answer_of(await send())
        assert (told["error"], told["state"], "code" in told) == (error, "state-of-the-tests", False)
        assert [line["event"] for line in lines if line["event"] == event] == [event]
    assert (await browser.get("/authorize?client_id=unknown")).status_code == 400


# The grace of ten seconds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["revoked", "grant ended", "code reused", "disabled", "removed", "older token reused"])
async def test_a_retry_within_the_grace_revives_nothing(app: Litestar, client: AsyncClient, way: str) -> None:
    """A lost answer is repeated within ten seconds of a refresh, and only while the session goes on."""
    application, person = await add_client(app), await new_person(app)
    code = await new_code(person, application)
    first = (await exchange(client, application, code)).json()
    second = (await refresh(client, first, **credentials(application))).json()
    assert (await refresh(client, first, **credentials(application))).status_code == 200
    match way:
        case "revoked":
            await client.post("/revoke", data={"token": second["refresh_token"], **credentials(application)})
        case "grant ended":
            await execute(app, delete(OAuthGrant))
        case "code reused":
            assert (await exchange(client, application, code)).status_code == 400
        case "disabled":
            await execute(app, update(User).values(is_active=False))
        case "removed":
            await execute(app, delete(OAuthClient))
        case "older token reused":
            await refresh(client, second, **credentials(application))
            assert (await refresh(client, first, **credentials(application))).status_code == 400
    for tokens in (first, second):
        refused = await refresh(client, tokens, **credentials(application))
        assert refused.json()["error"] == ("invalid_client" if way == "removed" else "invalid_grant")
        assert await items_status(client, tokens) == 401
