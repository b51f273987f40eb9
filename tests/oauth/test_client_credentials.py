"""Tokens by which applications act for themselves, and what they learn about the tokens of others."""

import jwt
import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import delete, update

from app.database.models import now
from app.oauth.models import ClientToken, OAuthClient
from tests.auth.oauth import Pair, bearer, execute, open_session
from tests.factories import add_user
from tests.oauth.flow import add_client, credentials, new_person, new_tokens

OWN = {
    "grant_types": ["client_credentials"],
    "redirect_uris": [],
    "scopes": ["users:read", "users:write", "items:read"],
}


async def own_token(client: AsyncClient, form: dict[str, str]) -> Pair:
    """Return the answer of the token endpoint to an application that acts for itself."""
    answer = await client.post("/token", data={"grant_type": "client_credentials", **form})
    tokens: Pair = {"status": answer.status_code, **answer.json()}
    return tokens


async def test_an_application_acts_for_itself_within_its_scopes(app: Litestar, client: AsyncClient) -> None:
    """It reads what superusers read, and changes nothing of theirs; what is a person's isn't for it."""
    application, user = await add_client(app, **OWN), await add_user(app, "alice")
    tokens = await own_token(client, credentials(application))
    assert tokens.keys() == {"status", "access_token", "token_type", "expires_in", "scope"}
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    name = application.client.client_id
    assert (claims["sub"], claims["client_id"]) == (f"client:{name}", name)
    headers = bearer(tokens)
    assert (await client.get("/users/", headers=headers)).json()[0]["id"] == user.id
    assert (await client.get(f"/users/{user.id}", headers=headers)).status_code == 200
    for method, path, detail in (
        ("GET", "/items/", "Only a person can do this"),
        ("GET", "/users/me", "The token lacks the scope account:read"),
        ("GET", "/users/me/sessions", "Not allowed with this token"),
        ("DELETE", f"/users/{user.id}", "Not allowed with this token"),
        ("GET", "/clients", "Not allowed with this token"),
    ):
        refused = await client.request(method, path, headers=headers)
        assert (refused.status_code, refused.json()["detail"]) == (403, detail), path


async def test_a_token_of_an_applications_own_ends(app: Litestar, client: AsyncClient) -> None:
    """By a revocation of its application's, with its time, with the scope, and with the application."""
    application, other = await add_client(app, **OWN), await add_client(app, **OWN)
    form = credentials(application)
    first, second, third = [bearer(await own_token(client, form)) for _ in range(3)]
    refused = await client.post("/revoke", data={"token": first["Authorization"][7:], **credentials(other)})
    assert refused.json()["error"] == "unauthorized_client"
    assert (await client.get("/users/", headers=first)).status_code == 200
    assert (await client.post("/revoke", data={"token": first["Authorization"][7:], **form})).status_code == 200
    assert [(await client.get("/users/", headers=token)).status_code for token in (first, second)] == [401, 200]
    await execute(app, update(OAuthClient).values(scope="items:read"))
    assert (await client.get("/users/", headers=second)).status_code == 403
    await execute(app, update(ClientToken).values(expires_at=now()))
    assert (await client.get("/users/", headers=second)).status_code == 401
    await execute(app, delete(OAuthClient))
    assert (await client.get("/users/", headers=third)).status_code == 401


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"scope": "account:read"}, 400, "invalid_scope"),
        ({"scope": "nothing"}, 400, "invalid_scope"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "unknown"}, 401, "invalid_client"),
    ],
)
async def test_more_than_its_own_is_refused(
    app: Litestar, client: AsyncClient, form: dict[str, str], status: int, error: str
) -> None:
    tokens = await own_token(client, credentials(await add_client(app, **OWN)) | form)
    assert (tokens["status"], tokens["error"]) == (status, error)


async def test_an_application_that_may_not_act_for_itself_doesnt(app: Litestar, client: AsyncClient) -> None:
    tokens = await own_token(client, credentials(await add_client(app)))
    assert (tokens["status"], tokens["error"]) == (400, "unauthorized_client")


async def test_an_application_with_a_secret_learns_about_tokens(app: Litestar, client: AsyncClient) -> None:
    """About any access token that it holds; a refresh token is its own application's affair."""
    application, other, person = await add_client(app), await add_client(app, **OWN), await new_person(app)
    tokens = await new_tokens(client, person, application)
    login = await open_session(app, person.user.id)

    async def about(token: str, form: dict[str, str] | None = None) -> Pair:
        answer = await client.post("/introspect", data={"token": token, **(form or credentials(other))})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        told: Pair = answer.json()
        return told

    told = await about(tokens["access_token"])
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert told == {
        "active": True,
        "token_type": "Bearer",
        **{name: claims[name] for name in told.keys() & claims.keys()},
    }
    assert (told["sub"], told["client_id"]) == (str(person.user.id), application.client.client_id)
    assert told["scope"] == "openid offline_access items:read"
    assert (await about(login["access_token"]))["active"]
    own = await own_token(client, credentials(other))
    assert (await about(own["access_token"]))["sub"].startswith("client:")
    assert (await about(tokens["refresh_token"], credentials(application)))["active"]
    for token in (tokens["refresh_token"], login["refresh_token"], "unknown"):
        assert await about(token) == {"active": False}
    await client.post("/revoke", data={"token": tokens["access_token"], **credentials(application)})
    assert await about(tokens["access_token"]) == {"active": False}
    assert await about(tokens["refresh_token"], credentials(application)) == {"active": False}


async def test_nobody_else_learns_about_tokens(app: Litestar, client: AsyncClient) -> None:
    public, confidential = await add_client(app, confidential=False), await add_client(app)
    for form in ({}, credentials(public), credentials(confidential) | {"client_secret": "wrong"}):
        refused = await client.post("/introspect", data={"token": "unknown", **form})
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert (await client.post("/introspect", data=credentials(confidential))).json()["error"] == "invalid_request"
