"""SECOND_FACTOR, where applications are concerned: those of others, and those that act for themselves."""

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.auth.schemas import Token
from app.auth.service import AuthService
from app.database.models import now
from app.factors.passkeys.service import PASSKEY, REMOVED_PASSKEY
from app.factors.service import PASSWORD_AND_CODE
from app.main import create_app
from app.oauth.clients import Registered
from app.oauth.models import AuthorizationCode
from app.settings import Settings
from tests.auth.oauth import bearer, execute, fetch, new_user, open_session, refresh
from tests.factories import PASSWORD, add_user, client_of, connect_to
from tests.factors.authenticator import Authenticator
from tests.factors.totp import code_of, enrol, forget_steps
from tests.oauth.browsers import allow, answer_of, authorize, code_by_browser, new_browser
from tests.oauth.flow import (
    DEVICE,
    add_client,
    credentials,
    exchange,
    id_claims,
    needs_own_keys,
    new_code,
    new_person,
    new_tokens,
    parameters,
    sign_in,
)
from tests.oauth.test_client_credentials import OWN, own_token
from tests.oauth.test_device import answer as let_in
from tests.oauth.test_device import ask, begin
from tests.pages.person import Person
from tests.problems import assert_problem

NEEDED = "A second factor is needed"
SECURITY = "/account/security"
NO_FACTOR = {"amr": "pwd"}


async def test_who_needs_a_second_factor_needs_it_to_sign_in_elsewhere(settings: Settings) -> None:
    """No application is told who somebody is before that, one of the operator's own neither; the page helps."""
    app = create_app(replace(settings, second_factor="all"))
    async with connect_to(app) as client:
        applications = [await add_client(app), await add_client(app, first_party=True)]
        browser = await new_browser(app)
        for application in applications:
            page = await authorize(browser, application)
            assert (page.status_code, page.headers["location"].partition("?")[0]) == (303, SECURITY)
        silent = answer_of(await authorize(browser, applications[1], prompt="none"))
        assert (silent["error"], "code" in silent) == ("interaction_required", False)
        assert answer_of(await authorize(client, applications[1], prompt="none"))["error"] == "login_required"
        await execute(app, update(LoginSession).values(amr=PASSWORD_AND_CODE))
        for application in applications:
            code = await code_by_browser(browser, application)
            tokens = (await exchange(client, application, code)).json()
            assert (await client.get("/items", headers=bearer(tokens))).status_code == 200
            answer = await refresh(client, tokens, **credentials(application))
            assert (await client.get("/userinfo", headers=bearer(answer.json()))).status_code == 200


async def test_the_question_isnt_answered_below_two_factors(settings: Settings) -> None:
    """As by a session that loses the level while the page is open."""
    app = create_app(replace(settings, second_factor="all"))
    async with connect_to(app):
        application, browser = await add_client(app), await new_browser(app)
        await execute(app, update(LoginSession).values(amr=PASSWORD_AND_CODE))
        page = await authorize(browser, application)
        await execute(app, update(LoginSession).values(NO_FACTOR))
        answer = await allow(browser, page)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, SECURITY)
        assert await fetch(app, select(AuthorizationCode.digest)) == []


async def test_an_applications_token_has_the_level_of_the_session_that_granted_it(settings: Settings) -> None:
    """A superuser's, without a factor, reads what is theirs, and nobody else's."""
    app = create_app(replace(settings, second_factor="superusers"))
    async with connect_to(app) as client:
        application = await add_client(app, scopes=["items:read", "users:read", "offline_access"])
        root = await new_person(app, "root", is_superuser=True)
        tokens = await new_tokens(client, root, application, scope=None)
        assert (await client.get("/items", headers=bearer(tokens))).status_code == 200
        assert_problem(await client.get("/users", headers=bearer(tokens)), 403, NEEDED)
        renewed = (await refresh(client, tokens, **credentials(application))).json()
        assert_problem(await client.get("/users", headers=bearer(renewed)), 403, NEEDED)
        await execute(app, update(LoginSession).values(amr=PASSWORD_AND_CODE))
        assert (await client.get("/users", headers=bearer(renewed))).status_code == 200


@needs_own_keys
async def test_a_factor_that_is_removed_counts_for_nothing_on_its_way(app: Litestar, client: AsyncClient) -> None:
    """Neither for a code nor for a device that was let in, both of which the session has approved by it."""
    application, waiting = await add_client(app), await add_client(app, **DEVICE)
    user = await add_user(app, "alice")
    own = client_of(app, **bearer(await open_session(app, user.id)))
    await enrol(app, own)
    person = await sign_in(app, user.id)
    person.user = replace(person.user, amr=PASSWORD_AND_CODE)
    await execute(app, update(LoginSession).values(amr=PASSWORD_AND_CODE))
    code, codes = await new_code(person, application), await begin(client, waiting)
    await let_in(person, codes["user_code"])
    assert (await own.delete("/users/me/totp")).status_code == 204
    answers = await exchange(client, application, code), await ask(client, waiting, codes)
    for registered, answer in zip((application, waiting), answers, strict=True):
        assert (await id_claims(client, registered, answer.json()))["amr"] == ["pwd"]
    assert {row.amr for row in await fetch(app, select(LoginSession.amr))} == {"pwd"}


@pytest.mark.in_process("that reach into the application's process")
async def test_a_passkey_that_is_removed_meanwhile_counts_for_nothing_either(
    app: Litestar, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its removal waits for an exchange that has begun, and lowers the session that it gets."""
    application, user = await add_client(app), await add_user(app, "alice")
    own = client_of(app, **bearer(await open_session(app, user.id)))
    passkey = (await Authenticator().add_to(own)).json()["id"]
    person = await sign_in(app, user.id)
    person.user = replace(person.user, amr=PASSKEY)
    await execute(app, update(LoginSession).values(amr=PASSKEY))
    code, open_in, removals = await new_code(person, application), AuthService.open_in, []

    async def open_late(*arguments: Any) -> Token:  # noqa: ANN401 - the method's
        removals.append(asyncio.create_task(own.delete(f"/users/me/passkeys/{passkey}")))
        await asyncio.sleep(0.2)  # In less, the removal would wait for the event loop alone.
        return await open_in(*arguments)

    monkeypatch.setattr(AuthService, "open_in", open_late)
    assert (await exchange(client, application, code)).status_code == 200
    assert (await removals[0]).status_code == 204
    assert {row.amr for row in await fetch(app, select(LoginSession.amr))} == {REMOVED_PASSKEY}


@pytest.mark.parametrize("policy", ["superusers", "all"])
async def test_an_application_that_acts_for_itself_has_no_factor_to_prove(settings: Settings, policy: str) -> None:
    app = create_app(replace(settings, second_factor=policy))
    async with connect_to(app) as client:
        application, user = await add_client(app, **OWN), await add_user(app, "alice")
        headers = bearer(await own_token(client, credentials(application)))
        assert (await client.get("/users", headers=headers)).json()[0]["id"] == user.id
        assert (await client.get("/items", headers=headers)).json()["detail"] == "Only a person can do this"


async def test_a_person_with_a_second_factor_signs_in_elsewhere_by_it(settings: Settings) -> None:
    """The ID token says so and when, and `prompt=login` and `max_age` ask for both again."""
    app = create_app(settings)
    async with connect_to(app) as client:
        pair, application = await new_user(app), await add_client(app, first_party=True)
        secret, _ = await enrol(app, client_of(app, **bearer(pair)))
        person, way = Person(app), f"/authorize?{urlencode(parameters(application))}"
        code_page = f"/account/sign-in/code?{urlencode({'next': way})}"
        entrance = f"/account/sign-in?{urlencode({'next': way})}"
        assert (await person.client.get(way)).headers["location"] == entrance
        await person.done(entrance, code_page, username="alice", password=PASSWORD)
        assert (await person.send(code_page, code=code_of(secret))).headers["location"] == way
        claims = await id_claims(client, application, await tokens_of(client, person, application))
        assert claims["amr"] == PASSWORD_AND_CODE.split()
        for asked in ({"prompt": "login"}, {"max_age": "60"}):
            ago = now() - timedelta(minutes=5)
            await execute(app, update(LoginSession).values(authenticated_at=ago))
            await forget_steps(app)
            sent = await authorize(person.client, application, **asked)
            confirm = sent.headers["location"]
            assert confirm.startswith("/account/confirm?")
            password = await person.send(confirm, password=PASSWORD)
            answer = await person.send(password.headers["location"], code=code_of(secret))
            code = answer_of(await person.client.get(answer.headers["location"]))["code"]
            again = await id_claims(client, application, (await exchange(client, application, code)).json())
            assert again["amr"] == PASSWORD_AND_CODE.split()
            assert again["auth_time"] > ago.timestamp()
            assert "code" in answer_of(await authorize(person.client, application, max_age="60", prompt="none"))


async def tokens_of(client: AsyncClient, person: Person, application: Registered) -> dict[str, str]:
    """Return the tokens of a person who isn't asked."""
    code = answer_of(await authorize(person.client, application))["code"]
    tokens: dict[str, str] = (await exchange(client, application, code)).json()
    return tokens
