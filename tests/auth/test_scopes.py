"""Scopes: sessions and access tokens that may do less than their user."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select

from app.auth.models import LoginSession
from app.security.tokens import ACCESS
from tests.auth.oauth import Pair, bearer, fetch, new_user, refresh, status_of
from tests.factories import PASSWORD, client_of, create_item, on_sqlite, parts_of, register
from tests.problems import assert_problem

SCOPES = {
    "account:read",
    "account:write",
    "items:read",
    "items:write",
    "users:read",
    "users:write",
    "openid",
    "profile",
    "email",
    "offline_access",
}


async def log_in(client: AsyncClient, **form: str) -> Pair:
    """Register and log in as alice, with further parameters, and return the pair of tokens."""
    await register(client, "alice")
    answer = await client.post("/token", data={"username": "alice", "password": PASSWORD, **form})
    assert answer.status_code == 200, answer.text
    pair: Pair = answer.json()
    return pair


async def may(client: AsyncClient, pair: Pair) -> set[str]:
    """Return those of three scopes that the pair's access token has."""
    headers = bearer(pair)
    answers = {
        "account:read": await client.get("/users/me", headers=headers),
        "items:read": await client.get("/items", headers=headers),
        "items:write": await client.post("/items", headers=headers, json={"title": "Umbrella"}),
    }
    for scope, answer in answers.items():
        assert answer.is_success or answer.headers["WWW-Authenticate"].endswith(f'scope="{scope}"')
    return {scope for scope, answer in answers.items() if answer.is_success}


def assert_invalid(answer: Any) -> None:  # noqa: ANN401 - httpx's answer
    """Check that a scope was refused as RFC 6749 has it (section 5.2)."""
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


# Logins ---------------------------------------------------------------------------------------------------------------


async def test_a_login_without_a_scope_may_do_everything(app: Litestar, client: AsyncClient) -> None:
    pair = await log_in(client)
    assert "scope" not in pair
    assert parts_of(app).tokens.read(ACCESS, pair["access_token"]).scope == ""
    assert await may(client, pair) == {"account:read", "items:read", "items:write"}
    assert (await client.get("/users/me/sessions", headers=bearer(pair))).status_code == 200


async def test_a_scope_narrows_the_session(app: Litestar, client: AsyncClient) -> None:
    """The answer and the access token say to what (RFC 6749, section 5.1; RFC 9068, section 2.2.3)."""
    pair = await log_in(client, scope="items:read account:read items:read")
    assert pair["scope"] == "items:read account:read"
    assert parts_of(app).tokens.read(ACCESS, pair["access_token"]).scope == pair["scope"]
    assert await may(client, pair) == {"account:read", "items:read"}
    refused = await client.post("/items", headers=bearer(pair), json={"title": "Umbrella"})
    assert_problem(refused, 403, "The token lacks the scope items:write")


async def test_a_scope_gives_no_right(client: AsyncClient) -> None:
    """Superusers' scopes are granted to everybody, and useless to whoever is none."""
    pair = await log_in(client, scope="users:read users:write")
    assert_problem(await client.get("/users", headers=bearer(pair)), 403, "Only superusers may do this")


@on_sqlite
@pytest.mark.parametrize("scope", ["items", "items:read everything", "Items:read", " ", "items:read ", "items:read\t"])
async def test_an_unknown_scope_is_invalid(client: AsyncClient, scope: str) -> None:
    """The password isn't looked at."""
    assert_invalid(await client.post("/token", data={"username": "alice", "password": "wrong", "scope": scope}))


async def test_an_empty_scope_counts_as_absent(client: AsyncClient) -> None:
    """Swagger UI sends it so when nobody has chosen any (RFC 6749, section 3.2)."""
    assert "scope" not in await log_in(client, scope="")


# Refreshes ------------------------------------------------------------------------------------------------------------


async def test_a_scope_in_a_refresh_narrows_that_access_token_alone(app: Litestar, client: AsyncClient) -> None:
    """The session keeps what it has (RFC 6749, section 6)."""
    first = await new_user(app)
    narrowed = (await refresh(client, first, scope="items:read")).json()
    assert narrowed["scope"] == "items:read"
    assert await may(client, narrowed) == {"items:read"}
    assert_problem(await client.get("/users/me/sessions", headers=bearer(narrowed)), 403, "Not allowed with this token")
    following = (await refresh(client, narrowed)).json()
    assert "scope" not in following
    assert await may(client, following) == {"account:read", "items:read", "items:write"}


async def test_a_refresh_never_widens_a_session(app: Litestar, client: AsyncClient) -> None:
    """More than was granted is refused, and spends nothing."""
    first = await new_user(app, scope="items:read account:read")
    for scope in ("items:write", "items:read items:write", "everything"):
        assert_invalid(await refresh(client, first, scope=scope))
    second = (await refresh(client, first, scope="items:read")).json()
    assert await may(client, second) == {"items:read"}
    third = (await refresh(client, second)).json()
    assert third["scope"] == "items:read account:read"
    assert await may(client, third) == {"account:read", "items:read"}


async def test_a_repeated_refresh_never_widens_a_session(app: Litestar, client: AsyncClient) -> None:
    """A retry of a lost answer gets what the session has, or less."""
    first = await new_user(app, scope="items:read")
    answers = await asyncio.gather(*(refresh(client, first, scope=scope) for scope in ["items:read", ""] * 3))
    assert {answer.json()["scope"] for answer in answers} == {"items:read"}
    assert_invalid(await refresh(client, first, scope="items:write"))
    assert await may(client, answers[-1].json()) == {"items:read"}


async def test_a_spent_token_ends_its_session_whatever_scope_is_asked_for(app: Litestar, client: AsyncClient) -> None:
    first = await new_user(app, scope="items:read")
    second = (await refresh(client, first)).json()
    third = (await refresh(client, second)).json()
    assert (await refresh(client, first, scope="items:write")).json()["error"] == "invalid_grant"
    assert (await client.get("/items", headers=bearer(third))).status_code == 401


async def test_the_session_decides_not_the_token_alone(app: Litestar, client: AsyncClient) -> None:
    """A token whose claim were wider than its session gets no further than the session."""
    pair = await new_user(app, scope="items:read")
    claims = parts_of(app).tokens.read(ACCESS, pair["access_token"])
    wider = parts_of(app).tokens.issue(
        ACCESS, claims.user_id, timedelta(minutes=5), sid=claims.sid, scope="items:read items:write"
    )
    assert await may(client, {"access_token": wider}) == {"items:read"}
    unnamed = parts_of(app).tokens.issue(ACCESS, claims.user_id, timedelta(minutes=5), sid=claims.sid)
    assert await may(client, {"access_token": unnamed}) == {"items:read"}


# Own sessions only ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users/me/sessions", None),
        ("DELETE", "/users/me/sessions", None),
        ("DELETE", "/users/me/sessions/1", None),
        ("PUT", "/users/me/password", {"current_password": PASSWORD, "new_password": "a new and better one"}),
        ("PATCH", "/users/me", {"email": "new@example.org", "current_password": PASSWORD}),
        ("DELETE", "/users/me", None),
    ],
)
async def test_no_scope_lets_anybody_change_how_they_sign_in(
    app: Litestar, client: AsyncClient, method: str, path: str, body: dict[str, str] | None
) -> None:
    pair = await new_user(app, scope=" ".join(sorted(SCOPES)))
    answer = await client.request(method, path, headers=bearer(pair), json=body)
    assert_problem(answer, 403, "Not allowed with this token")
    assert "WWW-Authenticate" not in answer.headers
    assert await status_of(client, pair) == 200


async def test_a_new_address_is_refused_before_the_scope(app: Litestar, client: AsyncClient) -> None:
    """A body that can't be read is no new address, and whoever lacks the scope isn't told what is wrong with it."""
    headers = bearer(await new_user(app, scope="items:read"))
    for email in ("new@example.org", "no address"):
        answer = await client.patch("/users/me", headers=headers, json={"username": "renamed", "email": email})
        assert_problem(answer, 403, "Not allowed with this token" if "@" in email else None)
    lacking = "The token lacks the scope account:write"
    for content in (b"{}", b"{", b'{"email": 1}', b'{"username": "renamed"}'):
        json = {"Content-Type": "application/json"}
        answer = await client.patch("/users/me", headers=headers | json, content=content)
        assert_problem(answer, 403, lacking)


async def test_a_scope_lets_somebody_change_their_name(app: Litestar, client: AsyncClient) -> None:
    pair = await new_user(app, scope="account:write")
    renamed = await client.patch("/users/me", headers=bearer(pair), json={"username": "renamed"})
    assert renamed.json()["username"] == "renamed"
    assert (await client.post("/email-verification", headers=bearer(pair))).status_code == 202


async def test_a_narrowed_session_can_be_ended_by_its_token(app: Litestar, client: AsyncClient) -> None:
    pair = await new_user(app, scope="items:read")
    assert (await client.post("/revoke", data={"token": pair["access_token"]})).status_code == 200
    assert await fetch(app, select(LoginSession.id)) == []


@pytest.mark.usefixtures("client")
async def test_no_statement_is_added_by_a_scope(app: Litestar, statements: list[str]) -> None:
    """The guard's one statement reads the session's scope."""
    pair = await new_user(app, scope="items:read items:write")
    headers = bearer(pair)
    statements.clear()
    assert (await create_item(client_of(app, **headers))).status_code == 201
    assert len([statement for statement in statements if statement.startswith(("SELECT", "INSERT"))]) == 2


# The document ---------------------------------------------------------------------------------------------------------


@on_sqlite
async def test_document_and_metadata_name_all_scopes(client: AsyncClient) -> None:
    """Each has a description, and each that an operation needs is among them."""
    document = (await client.get("/openapi.json")).json()
    (scheme,) = document["components"]["securitySchemes"].values()
    described = scheme["flows"]["password"]["scopes"]
    assert described.keys() == SCOPES
    assert all(described.values())
    metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert set(metadata["scopes_supported"]) == SCOPES
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    needed = {
        scope
        for operation in operations
        for requirement in operation["security"]
        for scopes in requirement.values()
        for scope in scopes
    }
    # The others of OpenID Connect widen what /userinfo says.
    assert needed == {"openid"} | {scope for scope in SCOPES if ":" in scope}
