"""OpenID Connect: who somebody is, and the documents from which applications learn of this service."""

from datetime import UTC, datetime
from typing import Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oidc.discovery import OpenIDProviderMetadata
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import update

from app.main import FEATURES, create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import bearer, execute, new_user
from tests.factories import Statements, connect_to, on_sqlite

CHANGED = datetime(2026, 1, 31, 12, tzinfo=UTC)
DOCUMENTS = ("openid-configuration", "oauth-authorization-server", "oauth-protected-resource", "jwks.json")
PROFILE = {"preferred_username": "alice", "updated_at": int(CHANGED.timestamp())}
EMAIL = {"email": "alice@example.org", "email_verified": False}


@pytest.fixture
async def user_id(app: Litestar, client: AsyncClient) -> int:  # noqa: ARG001 - which keeps the application running
    """Alice, whose account was changed at a known time."""
    pair = await new_user(app)
    await execute(app, update(User).values(updated_at=CHANGED))
    assert pair
    return 1


# /userinfo ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "claims"),
    [
        (None, PROFILE | EMAIL),
        ("openid", {}),
        ("openid profile", PROFILE),
        ("email openid items:read", EMAIL),
        ("openid profile email offline_access", PROFILE | EMAIL),
    ],
)
async def test_a_token_tells_of_its_person_what_its_scopes_say(
    app: Litestar, client: AsyncClient, scope: str | None, claims: dict[str, object]
) -> None:
    """A login without a scope tells all. GET and POST answer the same."""
    pair = await new_user(app, scope=scope)
    await execute(app, update(User).values(updated_at=CHANGED))
    for method in ("GET", "POST"):
        answer = await client.request(method, "/userinfo", headers=bearer(pair))
        assert answer.status_code == 200
        assert answer.json() == {"sub": "1", **claims}
        assert answer.headers["cache-control"] == "private, no-cache"


@on_sqlite
async def test_without_the_scope_openid_nobody_is_told(app: Litestar, client: AsyncClient) -> None:
    pair = await new_user(app, scope="profile email account:read")
    for method in ("GET", "POST"):
        answer = await client.request(method, "/userinfo", headers=bearer(pair))
        assert answer.status_code == 403
        assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="openid"'
    assert (await client.get("/userinfo")).headers["www-authenticate"] == "Bearer"


@on_sqlite
async def test_who_asks_for_no_profile_costs_no_statement_more(app: Litestar, client: AsyncClient) -> None:
    """The guard knows all but the time of the last change."""
    for scope, statements in (("openid email", 1), ("openid profile", 2)):
        pair = await new_user(app, f"user{statements}", scope=scope)
        with Statements.of(app) as sent:
            assert (await client.get("/userinfo?unknown=1", headers=bearer(pair))).status_code == 200
            assert len(sent) == statements


# Documents ------------------------------------------------------------------------------------------------------------


async def documents(client: AsyncClient) -> dict[str, dict[str, Any]]:
    """Return the documents by their names, read by a page of some origin."""
    found = {}
    for name in DOCUMENTS:
        answer = await client.get(f"/.well-known/{name}", headers={"Origin": "https://anywhere.example.net"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert set(answer.headers["cache-control"].split(", ")) == {"public", "max-age=600"}
        assert answer.headers["content-type"] == "application/json"
        found[name] = answer.json()
    return found


async def test_the_documents_are_for_everybody_and_agree(client: AsyncClient) -> None:
    provider, server, resource, keys = (await documents(client)).values()
    assert provider == server
    assert resource["authorization_servers"] == [server["issuer"]]
    assert resource["resource"] in server["protected_resources"]
    assert resource["scopes_supported"] == server["scopes_supported"]
    assert {key["alg"] for key in keys["keys"]} >= set(provider["id_token_signing_alg_values_supported"])
    AuthorizationServerMetadata(server).validate_issuer()
    OpenIDProviderMetadata(provider).validate_jwks_uri()


async def test_every_address_in_the_documents_is_there(client: AsyncClient) -> None:
    """Each answers, be it with an error of its own."""
    provider = (await documents(client))["openid-configuration"]
    addresses = {name: url for name, url in provider.items() if name.endswith(("_endpoint", "_uri"))}
    assert addresses.keys() >= {"jwks_uri", "token_endpoint", "revocation_endpoint", "userinfo_endpoint"}
    for name, url in addresses.items():
        assert url.startswith(provider["issuer"])
        answer = await client.get(url.removeprefix(provider["issuer"]))
        assert answer.status_code != 404, name


@on_sqlite
async def test_the_documents_name_what_the_settings_say_and_never_the_host_of_a_request(settings: Settings) -> None:
    """Origins that CORS_ORIGINS names are told so, as for all other routes."""
    url, origin = "https://api.example.org/v1", "https://app.example.org"
    app = create_app(replace(settings, public_url=url, cors_origins=(origin,), algorithm="EdDSA"))
    async with connect_to(app) as client:
        for name in DOCUMENTS:
            answer = await client.get(f"/.well-known/{name}", headers={"Host": "evil.example.net", "Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin
            assert "evil" not in answer.text
        provider, _, resource, keys = (await documents(client)).values()
    assert provider["issuer"] == resource["resource"] == url
    assert provider["jwks_uri"] == f"{url}/.well-known/jwks.json"
    assert {key["alg"] for key in keys["keys"]} == {"EdDSA", "ES256", "RS256"}


@on_sqlite
async def test_without_applications_no_id_token_is_promised(settings: Settings) -> None:
    """/userinfo stays, for the logins of people."""
    features = [feature for feature in FEATURES if ".oauth." not in feature.__module__]
    async with connect_to(create_app(settings, features)) as client:
        provider = (await client.get("/.well-known/openid-configuration")).json()
        assert provider["id_token_signing_alg_values_supported"] == []
        assert "nonce" not in provider["claims_supported"]
        assert (await client.get("/.well-known/jwks.json")).json() == {"keys": []}


@on_sqlite
async def test_without_openid_the_server_says_nothing_of_it(settings: Settings) -> None:
    """The rest of its metadata stays, and so do the keys that sign access tokens."""
    features = [feature for feature in FEATURES if ".openid." not in feature.__module__]
    async with connect_to(create_app(replace(settings, algorithm="ES256"), features)) as client:
        server = (await client.get("/.well-known/oauth-authorization-server")).json()
        assert not {name for name in server if name.startswith(("userinfo", "id_token", "claims"))}
        assert len((await client.get("/.well-known/jwks.json")).json()["keys"]) >= 1
        assert (await client.get("/.well-known/openid-configuration")).status_code == 404
