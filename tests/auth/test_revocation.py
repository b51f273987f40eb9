"""Logging out (RFC 7009), and the metadata that a client library reads first (RFC 8414)."""

from datetime import timedelta

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select

from app.auth.models import LoginSession
from app.main import create_app
from app.security.tokens import ACCESS, REFRESH, RESET, VERIFICATION, Tokens
from app.settings import Settings
from tests.auth.oauth import Pair, bearer, fetch, new_user, open_session, refresh, refreshed, status_of
from tests.factories import add_user, connect_to, parts_of

TOKENS = ("access_token", "refresh_token")


async def revoke(client: AsyncClient, token: str, **form: str) -> int:
    """Revoke a token and return the status."""
    return (await client.post("/revoke", data={"token": token, **form})).status_code


@pytest.mark.parametrize("name", TOKENS)
async def test_revoking_either_token_ends_the_session_at_once(app: Litestar, client: AsyncClient, name: str) -> None:
    """Both tokens fail on their next use."""
    pair = await new_user(app)
    answer = await client.post("/revoke", data={"token": pair[name]})
    assert answer.status_code == 200
    await check_ended(client, pair)


async def test_revoking_ends_one_session_only(app: Litestar, client: AsyncClient) -> None:
    """The user stays signed in elsewhere."""
    user = await add_user(app, "alice")
    here, elsewhere = await open_session(app, user.id), await open_session(app, user.id)
    assert await revoke(client, here["access_token"]) == 200
    assert [await status_of(client, pair) for pair in (here, elsewhere)] == [401, 200]


async def test_revoking_a_spent_refresh_token_ends_the_session(app: Litestar, client: AsyncClient) -> None:
    """A client that lost the answer to its last refresh can still log out."""
    first = await new_user(app)
    second = await refreshed(client, first)
    assert await revoke(client, first["refresh_token"]) == 200
    await check_ended(client, second)


@pytest.mark.parametrize("kind", [ACCESS, REFRESH])
async def test_revoking_an_expired_token_ends_the_session(
    app: Litestar, client: AsyncClient, kind: str, tokens: Tokens
) -> None:
    """A user can log out after the access token has expired."""
    user = await add_user(app, "alice")
    pair = await open_session(app, user.id)
    (row,) = await fetch(app, select(LoginSession.id))
    expired = tokens.issue(kind, user.id, timedelta(days=-1), sid=row.id)
    assert await revoke(client, expired) == 200
    await check_ended(client, pair)


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "something-else", ""])
async def test_a_wrong_hint_is_harmless(app: Litestar, client: AsyncClient, hint: str) -> None:
    """The hint helps a server to search, and this one needs no help."""
    for name in TOKENS:
        pair = await new_user(app, name)
        assert await revoke(client, pair[name], token_type_hint=hint, client_id="x") == 200
        await check_ended(client, pair)


async def test_a_token_that_is_worth_nothing_is_revoked_too(app: Litestar, client: AsyncClient, tokens: Tokens) -> None:
    """The client has what it wanted, be the token unknown, garbage or revoked before (RFC 7009, section 2.2)."""
    pair = await new_user(app)
    alive = await new_user(app, "bob")
    user = await add_user(app, "carol")
    unknown = tokens.issue(REFRESH, user.id, timedelta(days=1), sid=12345)
    for token in ("garbage", "a.b.c", "\N{SNOWMAN}", unknown, pair["access_token"], pair["access_token"]):
        assert await revoke(client, token) == 200
    assert await status_of(client, alive) == 200


async def test_a_token_that_nobody_here_signed_ends_nothing(
    app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """If it did, a stranger could log anybody out."""
    pair = await new_user(app)
    (row,) = await fetch(app, select(LoginSession.id, LoginSession.user_id))
    other = Tokens(secret="another-service-" + "x" * 32, algorithm="HS256", issuer=settings.url)
    for kind in (ACCESS, REFRESH):
        assert await revoke(client, other.issue(kind, row.user_id, timedelta(days=1), sid=row.id)) == 200
    assert await status_of(client, pair) == 200


async def test_a_token_of_another_kind_ends_nothing(app: Litestar, client: AsyncClient, tokens: Tokens) -> None:
    """A mailed token is no login."""
    pair = await new_user(app)
    (row,) = await fetch(app, select(LoginSession.id, LoginSession.user_id))
    for kind in (RESET, VERIFICATION):
        token = tokens.issue(kind, row.user_id, timedelta(days=1), sid=row.id)
        assert await revoke(client, token) == 200
    assert await status_of(client, pair) == 200


async def test_a_token_of_another_users_session_ends_nothing(
    app: Litestar, client: AsyncClient, tokens: Tokens
) -> None:
    """Subject and session must belong together."""
    pair = await new_user(app)
    bob = await add_user(app, "bob")
    (row,) = await fetch(app, select(LoginSession.id))
    assert await revoke(client, tokens.issue(ACCESS, bob.id, timedelta(days=1), sid=row.id)) == 200
    assert await status_of(client, pair) == 200


async def test_the_token_is_required(client: AsyncClient) -> None:
    """Without it, or with an empty one, the request is invalid."""
    for form in ({"token_type_hint": "access_token"}, {"token": ""}):
        answer = await client.post("/revoke", data=form)
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"
        assert answer.headers["content-type"] == "application/json"


async def test_the_metadata_name_the_endpoints_by_the_public_url(settings: Settings) -> None:
    """They never use the name by which a request calls the server."""
    app = create_app(replace(settings, public_url="https://api.example.org/"))
    async with connect_to(app) as client:
        answer = await client.get("/.well-known/oauth-authorization-server", headers={"Host": "evil.example.net"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    expected = {
        "issuer": "https://api.example.org",
        "token_endpoint": "https://api.example.org/token",
        "revocation_endpoint": "https://api.example.org/revoke",
        "scopes_supported": list(parts_of(app).scopes),
        "authorization_endpoint": "https://api.example.org/authorize",
        "introspection_endpoint": "https://api.example.org/introspect",
        "device_authorization_endpoint": "https://api.example.org/device_authorization",
        "grant_types_supported": list(parts_of(app).grants),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "service_documentation": "https://api.example.org/docs",
    }
    assert answer.json() | expected == answer.json()


async def test_the_issuer_of_the_metadata_is_the_issuer_of_the_tokens(
    app: Litestar, client: AsyncClient, tokens: Tokens
) -> None:
    """RFC 8414, section 3.3, and RFC 9068, section 2.2, ask for this."""
    metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
    pair = await new_user(app)
    claims = tokens.read(ACCESS, pair["access_token"])
    assert metadata["issuer"] == claims.iss == claims.aud


async def check_ended(client: AsyncClient, pair: Pair) -> None:
    """Check that neither token of the pair is worth anything."""
    answer = await client.get("/users/me", headers=bearer(pair))
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (await refresh(client, pair)).json()["error"] == "invalid_grant"
