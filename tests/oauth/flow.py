"""Applications, and people who let them in, in one call each."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec import Struct, convert

from app.auth.caller import SignedIn
from app.auth.repository import SessionRepository
from app.auth.service import AuthService
from app.database.models import now
from app.oauth.clients import DEVICE_GRANT, ClientService, Registered
from app.oauth.codes.service import challenge_of
from app.oauth.feature import OAuthParts, create_authorization_service
from app.oauth.repository import ClientRepository, GrantRepository
from app.oauth.schemas import ClientCreate
from app.security.id_tokens import half_digest
from app.security.limits import Client
from app.security.tokens import ACCESS
from tests.factories import add_user, auth_service, parts_of

CALLBACK = "https://app.example.com/callback"
VERIFIER = "a-verifier-of-the-tests-that-has-43-characters"
SCOPES = ["openid", "profile", "offline_access", "items:read", "account:read"]
DEVICE = {"grant_types": [DEVICE_GRANT, "refresh_token"], "redirect_uris": [], "confidential": False}
needs_own_keys = pytest.mark.in_process("whose keys instances have in memory, although their table was emptied")
"""Marks tests that verify ID tokens: each test begins with a database without keys."""
BROWSER = Client("192.0.2.1", "192.0.2.1", "browser")


class Person(Struct):
    """Somebody who is signed in to an application's service."""

    app: Litestar
    user: SignedIn


def client_service(app: Litestar) -> ClientService:
    """Return the service that registers applications."""
    parts = parts_of(app)
    clients, sessions = ClientRepository(parts.database, parts.scopes), SessionRepository(parts.database)
    return ClientService(clients, sessions, parts.events, parts.scopes)


async def add_client(app: Litestar, **fields: object) -> Registered:
    """Register an application, a confidential one unless told otherwise."""
    values = {"name": "Umbrella Counter", "scopes": SCOPES, "redirect_uris": [CALLBACK]}
    return await client_service(app).create(convert(values | fields, ClientCreate), None)


async def new_person(app: Litestar, username: str = "alice", **columns: object) -> Person:
    """Add a user, who has just signed in."""
    return await sign_in(app, (await add_user(app, username, **columns)).id)


async def sign_in(app: Litestar, user_id: int) -> Person:
    """Sign a user in."""
    auth: AuthService = auth_service(app)
    token = await auth.open_session(user_id, BROWSER)
    claims = auth.tokens.read(ACCESS, token.access_token)
    user = await SessionRepository(parts_of(app).database).signed_in(claims.sid, user_id, now())
    assert user
    return Person(app, user)


def parameters(registered: Registered, **changes: str | None) -> dict[str, str]:
    """Return the parameters of a request for authorization; a change to None leaves one out."""
    given = {
        "response_type": "code",
        "client_id": registered.client.client_id,
        "redirect_uri": CALLBACK,
        "scope": "openid offline_access items:read",
        "state": "state-of-the-tests",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def answer_in(location: str) -> dict[str, str]:
    """Return the parameters of an answer that goes back to an application."""
    assert location.startswith(CALLBACK), location
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def new_code(person: Person, registered: Registered, **changes: str | None) -> str:
    """Let a person grant an application what it asks for, and return the code."""
    service = create_authorization_service(parts_of(person.app), OAuthParts(parts_of(person.app)))
    request = await service.read(list(parameters(registered, **changes).items()))
    return answer_in(await service.approve(request, person.user, BROWSER))["code"]


def credentials(registered: Registered) -> dict[str, str]:
    """Return the parameters by which an application says who it is."""
    secret = {"client_secret": registered.secret} if registered.secret else {}
    return {"client_id": registered.client.client_id, **secret}


async def exchange(client: AsyncClient, registered: Registered, code: str, **changes: str | None) -> Response:
    """Send a code to /token; a change to None leaves a parameter out."""
    given = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        **credentials(registered),
        **changes,
    }
    return await client.post("/token", data={name: value for name, value in given.items() if value is not None})


async def new_tokens(
    client: AsyncClient, person: Person, registered: Registered, **changes: str | None
) -> dict[str, Any]:
    """Let a person grant an application what it asks for, and return its tokens."""
    response = await exchange(client, registered, await new_code(person, registered, **changes))
    assert response.status_code == 200, response.text
    tokens: dict[str, Any] = response.json()
    return tokens


async def id_claims(client: AsyncClient, registered: Registered, tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an ID token tells the application, which verifies it by the published keys."""
    keys = jwt.PyJWKSet.from_dict((await client.get("/.well-known/jwks.json")).json())
    claims: dict[str, Any] = jwt.decode(
        tokens["id_token"],
        keys[jwt.get_unverified_header(tokens["id_token"])["kid"]],
        algorithms=[registered.client.id_token_signed_response_alg],
        audience=registered.client.client_id,
        issuer="http://127.0.0.1:8000",
    )
    assert claims["at_hash"] == half_digest(tokens["access_token"])
    assert claims["exp"] - claims["iat"] == tokens["expires_in"]
    return claims


async def grant_to(app: Litestar, user_id: int, registered: Registered) -> int:
    """Let a person grant an application something, and return the grant's id."""
    database = parts_of(app).database
    async with database.transaction() as transaction:
        return await GrantRepository(database).widen(transaction, user_id, registered.client.id, "items:read")
