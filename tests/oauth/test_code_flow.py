"""The code flow: what an application gets, and the ways in which others try to get it."""

import asyncio
from datetime import timedelta

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import delete, update

from app.auth.models import LoginSession
from app.database.models import now
from app.oauth.authorization import InvalidApplication
from app.oauth.codes.service import challenge_of
from app.oauth.models import AuthorizationCode, OAuthClient
from tests.auth.oauth import bearer, execute, fetch, refresh
from tests.factories import PASSWORD, add_user
from tests.oauth.flow import (
    add_client,
    credentials,
    exchange,
    id_claims,
    needs_own_keys,
    new_code,
    new_person,
    new_tokens,
    sign_in,
)


async def items_status(client: AsyncClient, tokens: dict[str, str]) -> int:
    """Return the status of a call of the API with the tokens."""
    return (await client.get("/items/", headers=bearer(tokens))).status_code


async def test_a_second_use_of_a_code_ends_what_the_first_one_got(app: Litestar, client: AsyncClient) -> None:
    """Also after the browser has signed out, which the application's session outlives."""
    application, person = await add_client(app), await new_person(app)
    code = await new_code(person, application)
    tokens = (await exchange(client, application, code)).json()
    await execute(app, delete(LoginSession).where(LoginSession.client_id.is_(None)))
    assert await items_status(client, tokens) == 200
    again = await exchange(client, application, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert await items_status(client, tokens) == 401
    assert (await refresh(client, tokens, **credentials(application))).status_code == 400


async def test_of_many_uses_at_once_one_wins(app: Litestar, client: AsyncClient) -> None:
    """All others are refused, and none has to come back: nothing slow is done while a row is locked."""
    application, person = await add_client(app), await new_person(app)
    code = await new_code(person, application)
    answers = await asyncio.gather(*(exchange(client, application, code) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    assert {answer.json()["error"] for answer in answers if not answer.is_success} == {"invalid_grant"}


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "another-verifier-that-is-also-43-characters-"},
        {"code_verifier": "short"},
        {"redirect_uri": "https://app.example.com/other"},
    ],
)
async def test_a_wrong_try_spends_a_code(app: Litestar, client: AsyncClient, changes: dict[str, str]) -> None:
    application, person = await add_client(app), await new_person(app)
    code = await new_code(person, application)
    for tried in (changes, {}):
        answer = await exchange(client, application, code, **tried)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("missing", ["redirect_uri", "code_verifier"])
async def test_a_missing_parameter_is_named_and_spends_nothing(
    app: Litestar, client: AsyncClient, missing: str
) -> None:
    application, person = await add_client(app), await new_person(app)
    code = await new_code(person, application)
    answer = await exchange(client, application, code, **{missing: None})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert missing in answer.json()["error_description"]
    assert (await exchange(client, application, code)).status_code == 200


async def test_a_code_is_good_for_its_application_and_its_time(app: Litestar, client: AsyncClient) -> None:
    """Another application neither uses nor spends it."""
    application, other, person = await add_client(app), await add_client(app), await new_person(app)
    code = await new_code(person, application)
    stolen = await exchange(client, other, code)
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    assert (await exchange(client, application, code)).status_code == 200
    late = await new_code(person, application)
    await execute(app, update(AuthorizationCode).values(expires_at=now() - timedelta(seconds=1)))
    assert (await exchange(client, application, late)).json()["error"] == "invalid_grant"


async def test_without_offline_access_nothing_outlives_the_access_token(app: Litestar, client: AsyncClient) -> None:
    application, person = await add_client(app), await new_person(app)
    tokens = await new_tokens(client, person, application, scope="items:read")
    assert "refresh_token" not in tokens
    (row,) = await fetch(app, LoginSession.__table__.select().where(LoginSession.client_id.is_not(None)))
    assert row.expires_at <= now() + timedelta(minutes=30)


async def test_without_a_scope_the_request_is_for_all_that_the_application_may_ask_for(
    app: Litestar, client: AsyncClient
) -> None:
    application, person = await add_client(app, scopes=["items:read", "users:read"]), await new_person(app)
    tokens = await new_tokens(client, person, application, scope=None)
    assert tokens["scope"] == "items:read users:read"
    assert (await client.get("/users/", headers=bearer(tokens))).status_code == 403  # She is no superuser.


async def test_a_code_ends_with_the_session_in_which_it_was_made(app: Litestar, client: AsyncClient) -> None:
    """As by a password reset between the two: what is on its way then is worth nothing."""
    application = await add_client(app)
    alice = await add_user(app, "alice")
    code = await new_code(await sign_in(app, alice.id), application)
    await execute(app, delete(LoginSession))
    assert (await exchange(client, application, code)).json()["error"] == "invalid_grant"


async def test_an_application_that_is_removed_in_the_middle_gets_nothing(app: Litestar, client: AsyncClient) -> None:
    application, person = await add_client(app), await new_person(app)
    tokens, code = await new_tokens(client, person, application), await new_code(person, application)
    await execute(app, delete(OAuthClient))
    gone = await exchange(client, application, code)
    assert (gone.status_code, gone.json()["error"]) == (401, "invalid_client")
    assert await items_status(client, tokens) == 401
    with pytest.raises(InvalidApplication):
        await new_code(person, application)


def test_the_challenge_is_that_of_the_specification() -> None:
    """Its appendix B has this one."""
    challenge = challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@needs_own_keys
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_an_id_token_says_who_has_signed_in_and_how(app: Litestar, client: AsyncClient, algorithm: str) -> None:
    """By a published key, for the application, with what it asked for; without `openid` there is none."""
    application, person = await add_client(app, id_token_signed_response_alg=algorithm), await new_person(app)
    tokens = await new_tokens(client, person, application, nonce="n-0S6_WzA2Mj")
    claims = await id_claims(client, application, tokens)
    assert (claims["sub"], claims["nonce"], claims["amr"]) == (str(person.user.id), "n-0S6_WzA2Mj", ["pwd"])
    assert person.user.authenticated_at
    assert claims["auth_time"] == int(person.user.authenticated_at.timestamp())
    assert "id_token" not in await new_tokens(client, person, application, scope="items:read")


@needs_own_keys
async def test_a_refresh_tells_again_who_has_signed_in_without_the_nonce(app: Litestar, client: AsyncClient) -> None:
    """As OpenID Connect Core, section 12.2, has it. A refresh for less than `openid` tells nothing."""
    application, person = await add_client(app), await new_person(app)
    tokens = await new_tokens(client, person, application, nonce="n-0S6_WzA2Mj")
    first = await id_claims(client, application, tokens)
    renewed = (await refresh(client, tokens, **credentials(application))).json()
    claims = await id_claims(client, application, renewed)
    same = ("iss", "sub", "aud", "auth_time", "amr")
    assert [claims[name] for name in same] == [first[name] for name in same]
    assert "nonce" not in claims
    narrowed = await refresh(client, renewed, scope="items:read", **credentials(application))
    assert "id_token" not in narrowed.json()


@needs_own_keys
async def test_a_login_by_password_tells_the_operators_own_application_too(app: Litestar, client: AsyncClient) -> None:
    """A login by no application, and an application that acts for nobody, get no ID token."""
    application = await add_client(app, first_party=True, grant_types=["client_credentials"], redirect_uris=[])
    user = await add_user(app, "alice")
    login = {"username": "alice", "password": PASSWORD, "scope": "openid"}
    tokens = (await client.post("/token", data=login | credentials(application))).json()
    assert (await id_claims(client, application, tokens))["sub"] == str(user.id)
    own = {"grant_type": "client_credentials", "scope": "openid", **credentials(application)}
    for form in (login, own):
        answer = (await client.post("/token", data=form)).json()
        assert answer["scope"] == "openid"
        assert "id_token" not in answer
