"""The modules of the OpenID Foundation's basic and config plans for providers, from their public descriptions.

Each test names its module. Each request has PKCE, which this service asks for and the plans' own requests don't send.
docs/sign-in-elsewhere.md says which modules don't apply, and why.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.database.models import now
from app.main import create_app
from app.oauth.clients import Registered
from app.oauth.models import AuthorizationCode
from app.settings import Settings
from tests.auth.oauth import bearer, execute, fetch, refresh
from tests.factories import connect_to, on_sqlite
from tests.oauth.browsers import allow, answer_of, authorize, new_browser
from tests.oauth.flow import CALLBACK, add_client, credentials, exchange, id_claims
from tests.oauth.test_clients import basic
from tests.problems import assert_problem

pytestmark = on_sqlite  # What is said here is the same on either.
SCOPES = ["openid", "profile", "email", "offline_access"]
STATE = "state-of-the-tests"
Claims = dict[str, Any]


class Provider(Struct):
    """The service, an application with a secret, and a browser in which alice has signed in."""

    app: Litestar
    client: AsyncClient
    application: Registered
    browser: AsyncClient

    async def authorize(self, **request: str | None) -> Response:
        """Send alice to /authorize, and allow what she is asked; return what goes back, or stops her."""
        page = await authorize(self.browser, self.application, **({"scope": "openid"} | request))
        return await allow(self.browser, page) if page.status_code == 200 else page

    async def tokens(self, **request: str | None) -> Claims:
        """Return the tokens by the code flow, in which the application sends its secret by Basic."""
        answer = answer_of(await self.authorize(**request))
        assert answer.get("state") == request.get("state", STATE)
        assert answer["iss"] == "http://127.0.0.1:8000"
        return await self.exchanged(answer["code"])

    async def exchanged(self, code: str) -> Claims:
        """Return the tokens for a code."""
        client_id, secret = credentials(self.application).values()
        nothing = {"client_id": None, "client_secret": None}
        self.client.headers["Authorization"] = basic(client_id, secret)["Authorization"]
        response = await exchange(self.client, self.application, code, **nothing)
        del self.client.headers["Authorization"]
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store"), response.text
        tokens: Claims = response.json()
        assert tokens["token_type"].lower() == "bearer"
        return tokens

    async def claims(self, tokens: Claims) -> Claims:
        """Return what the ID token says, which is checked as the specification has it."""
        return await id_claims(self.client, self.application, tokens)

    async def user_info(self, tokens: Claims, method: str = "GET") -> Claims:
        """Return what /userinfo says, which is about the person of the ID token."""
        response = await self.client.request(method, "/userinfo", headers=bearer(tokens))
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        told: Claims = response.json()
        assert told["sub"] == (await self.claims(tokens))["sub"]
        return told


@pytest.fixture
async def provider(app: Litestar, client: AsyncClient) -> Provider:
    """The service, and alice, whose address is confirmed."""
    browser = await new_browser(app, email_verified=True)
    return Provider(app, client, await add_client(app, scopes=SCOPES), browser)


@pytest.fixture
async def secure(settings: Settings) -> AsyncIterator[AsyncClient]:
    """A client of the service where it is known by https, as everywhere but on one's own machine."""
    async with connect_to(create_app(replace(settings, public_url="https://id.example.org"))) as client:
        yield client


# The answer, and its ID token -----------------------------------------------------------------------------------------


async def test_server(provider: Provider) -> None:
    """oidcc-server: the code flow, its answer's state, and the ID token's claims."""
    tokens = await provider.tokens(nonce="n-0S6_WzA2Mj", scope="openid profile email")
    claims = await provider.claims(tokens)
    assert claims["nonce"] == "n-0S6_WzA2Mj"
    assert claims["iss"] == "http://127.0.0.1:8000"
    assert isinstance(claims["sub"], str)
    assert 0 < len(claims["sub"]) <= 255
    assert claims["iat"] <= now().timestamp() < claims["exp"]


async def test_response_type_missing(provider: Provider) -> None:
    """oidcc-response-type-missing: the error goes back to the application."""
    answer = answer_of(await provider.authorize(response_type=None))
    assert (answer["error"], answer["state"]) == ("invalid_request", STATE)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_idtoken_signature(provider: Provider, algorithm: str) -> None:
    """oidcc-idtoken-signature: the header names a published key, by its `kid`, and the algorithm of the application."""
    provider.application = await add_client(provider.app, scopes=SCOPES, id_token_signed_response_alg=algorithm)
    tokens = await provider.tokens()
    header = jwt.get_unverified_header(tokens["id_token"])
    keys = (await provider.client.get("/.well-known/jwks.json")).json()["keys"]
    assert [key["alg"] for key in keys if key["kid"] == header["kid"]] == [header["alg"]] == [algorithm]
    assert await provider.claims(tokens)


async def test_request_without_nonce(provider: Provider) -> None:
    """oidcc-ensure-request-without-nonce-succeeds-for-code-flow."""
    assert "nonce" not in await provider.claims(await provider.tokens(nonce=None))


# /userinfo ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_userinfo(provider: Provider, method: str) -> None:
    """oidcc-userinfo-get and oidcc-userinfo-post-header: the token is in the header."""
    told = await provider.user_info(await provider.tokens(scope="openid profile email"), method)
    assert told.keys() == {"sub", "preferred_username", "updated_at", "email", "email_verified"}


async def test_userinfo_post_body(provider: Provider) -> None:
    """oidcc-userinfo-post-body: a token in a form is none, as the module allows; the challenge names no error."""
    tokens = await provider.tokens()
    refused = await provider.client.post("/userinfo", data={"access_token": tokens["access_token"]})
    assert_problem(refused, 401, "Not authenticated")
    assert refused.headers["www-authenticate"] == "Bearer"
    metadata = (await provider.client.get("/.well-known/oauth-protected-resource")).json()
    assert metadata["bearer_methods_supported"] == ["header"]


# Scopes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "claims"),
    [
        ("openid profile", {"preferred_username", "updated_at"}),
        ("openid email", {"email", "email_verified"}),
        ("email openid", {"email", "email_verified"}),
        (" ".join(SCOPES), {"preferred_username", "updated_at", "email", "email_verified"}),
    ],
)
async def test_scopes(provider: Provider, scope: str, claims: set[str]) -> None:
    """oidcc-scope-profile, -email and -all, and oidcc-ensure-other-scope-order-succeeds."""
    tokens = await provider.tokens(scope=scope)
    told = await provider.user_info(tokens)
    assert told.keys() == {"sub"} | claims
    if "email" in claims:
        assert (told["email"], told["email_verified"]) == ("alice@example.org", True)


# What the application asks for besides --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        {"display": "page"},
        {"display": "popup"},
        {"extra": "foobar"},
        {"login_hint": "alice@example.org"},
        {"ui_locales": "se"},
        {"claims_locales": "se"},
        {"acr_values": "1 2"},
        {"claims": '{"userinfo":{"name":{"essential":true}}}'},
    ],
    ids=str,
)
async def test_requests_for_more_than_there_is(provider: Provider, request_: dict[str, str]) -> None:
    """oidcc-display-page and -popup, oidcc-ensure-request-with-unknown-parameter-succeeds, oidcc-login-hint,
    oidcc-ui-locales, oidcc-claims-locales, oidcc-ensure-request-with-acr-values-succeeds and oidcc-claims-essential.
    """  # noqa: D205 - the names of modules
    assert await provider.user_info(await provider.tokens(**request_))


@pytest.mark.parametrize(("name", "value"), [("request", "eyJhbGciOiJub25lIn0.e30."), ("request_uri", CALLBACK)])
async def test_request_objects(provider: Provider, name: str, value: str) -> None:
    """oidcc-unsigned-request-object- and oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported."""
    answer = answer_of(await provider.authorize(**{name: value}))
    assert (answer["error"], answer["state"]) == (f"{name}_not_supported", STATE)


# Sessions -------------------------------------------------------------------------------------------------------------


async def age(provider: Provider, seconds: int) -> int:
    """Let time pass since alice has signed in, and return when that was."""
    moment = now() - timedelta(seconds=seconds)
    await execute(provider.app, update(LoginSession).values(authenticated_at=moment))
    return int(moment.timestamp())


async def is_asked_to_sign_in(provider: Provider, **request: str) -> Claims:
    """Check that alice has to sign in again, and let her; return what the ID token says then."""
    sent = await provider.authorize(**request)
    assert sent.headers["location"].startswith("/account/confirm?next=")
    form = await provider.browser.get(sent.headers["location"])
    await age(provider, 0)
    code = answer_of(await provider.browser.get(str(form.url.params["next"])))["code"]
    return await provider.claims(await provider.exchanged(code))


@pytest.mark.parametrize("request_", [{"prompt": "login"}, {"max_age": "1"}], ids=["prompt", "max_age"])
async def test_a_fresh_sign_in(provider: Provider, request_: dict[str, str]) -> None:
    """oidcc-prompt-login and oidcc-max-age-1: the second ID token tells of a later sign-in, of the same person."""
    await age(provider, 5)
    first = await provider.claims(await provider.tokens())
    again = await is_asked_to_sign_in(provider, **request_)
    assert again["sub"] == first["sub"]
    assert again["auth_time"] > first["auth_time"]


async def test_prompt_none_logged_in(provider: Provider) -> None:
    """oidcc-prompt-none-logged-in, oidcc-max-age-10000 and oidcc-id-token-hint: alice isn't asked a second time."""
    moment = await age(provider, 60)
    tokens = await provider.tokens()
    first = await provider.claims(tokens)
    assert first["auth_time"] == moment
    for request in ({}, {"max_age": "10000"}, {"id_token_hint": tokens["id_token"]}):
        response = await authorize(provider.browser, provider.application, scope="openid", prompt="none", **request)
        again = await provider.claims(await provider.exchanged(answer_of(response)["code"]))
        assert [again[name] for name in ("sub", "auth_time")] == [first[name] for name in ("sub", "auth_time")]


async def test_prompt_none_not_logged_in(provider: Provider) -> None:
    """oidcc-prompt-none-not-logged-in."""
    answer = answer_of(await authorize(provider.client, provider.application, scope="openid", prompt="none"))
    assert (answer["error"], answer["state"]) == ("login_required", STATE)


# Codes, redirect URIs and secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 30])
async def test_codereuse(provider: Provider, seconds: int) -> None:
    """oidcc-codereuse and oidcc-codereuse-30seconds: it is refused, and what the first use got ends."""
    code = answer_of(await provider.authorize())["code"]
    tokens = await provider.exchanged(code)
    [(expires_at,)] = await fetch(provider.app, select(AuthorizationCode.expires_at))
    moment = expires_at - timedelta(seconds=seconds)
    await execute(provider.app, update(AuthorizationCode).values(expires_at=moment))
    again = await exchange(provider.client, provider.application, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert (await provider.client.get("/userinfo", headers=bearer(tokens))).status_code == 401


async def test_registered_redirect_uri(provider: Provider) -> None:
    """oidcc-ensure-registered-redirect-uri: alice is shown an error, and isn't sent anywhere."""
    shown = await provider.authorize(redirect_uri=f"{CALLBACK}/other")
    assert (shown.status_code, "location" in shown.headers) == (400, False)
    assert shown.headers["content-type"].startswith("text/html")


async def test_post_request(provider: Provider) -> None:
    """oidcc-ensure-post-request-succeeds: the browser brings its cookie along with the address that follows."""
    given = {"client_id": provider.application.client.client_id, "redirect_uri": CALLBACK, "scope": "openid"}
    page = await authorize(provider.browser, provider.application, scope="openid")
    parameters = dict(page.url.params)
    assert parameters.items() >= given.items()
    sent = await provider.browser.post("/authorize", data=parameters, headers={"Origin": "https://app.example.com"})
    answer = answer_of(await allow(provider.browser, await provider.browser.get(sent.headers["location"])))
    assert await provider.claims(await provider.exchanged(answer["code"]))


async def test_client_secret_post(provider: Provider) -> None:
    """oidcc-server-client-secret-post: the secret in the form."""
    code = answer_of(await provider.authorize())["code"]
    response = await exchange(provider.client, provider.application, code)
    assert await provider.claims(response.json())


async def test_refresh_token(provider: Provider) -> None:
    """oidcc-refresh-token: the new ID token is about the same sign-in, and no other application refreshes by it."""
    tokens = await provider.tokens(scope="openid offline_access", prompt="consent", nonce="n-1")
    first = await provider.claims(tokens)
    other = await add_client(provider.app, scopes=SCOPES)
    stolen = await refresh(provider.client, tokens, **credentials(other))
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    renewed = (await refresh(provider.client, tokens, **credentials(provider.application))).json()
    again = await provider.claims(renewed)
    same = ("iss", "sub", "aud", "auth_time")
    assert [again[name] for name in same] == [first[name] for name in same]
    assert again["iat"] >= first["iat"]
    assert await provider.user_info(renewed)


async def test_valid_pkce(provider: Provider) -> None:
    """oidcc-ensure-request-with-valid-pkce-succeeds; without PKCE there is an error, which goes back."""
    assert await provider.tokens()
    answer = answer_of(await provider.authorize(code_challenge=None, code_challenge_method=None))
    assert (answer["error"], answer["state"]) == ("invalid_request", STATE)


# The config plan ------------------------------------------------------------------------------------------------------


async def test_discovery_endpoint_verification(secure: AsyncClient) -> None:
    """oidcc-discovery-endpoint-verification: what has to be there is, and everything is https."""
    response = await secure.get("/.well-known/openid-configuration")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    metadata = response.json()
    issuer = metadata["issuer"]
    assert issuer == "https://id.example.org"
    addresses = {name: value for name, value in metadata.items() if name.endswith(("_endpoint", "_uri"))}
    needed = {"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"}
    assert addresses.keys() >= needed
    assert all(address.startswith("https://") for address in addresses.values())
    assert metadata["response_types_supported"] == ["code"]
    assert metadata["subject_types_supported"] == ["public"]
    assert "RS256" in metadata["id_token_signing_alg_values_supported"]
    assert {"openid", "offline_access"} <= set(metadata["scopes_supported"])
    assert {"authorization_code", "refresh_token"} <= set(metadata["grant_types_supported"])
    assert {"sub", "iss", "auth_time"} <= set(metadata["claims_supported"])
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    for name in ("claims", "request", "request_uri"):
        assert metadata[f"{name}_parameter_supported"] is False
    keys = (await secure.get("/.well-known/jwks.json")).json()["keys"]
    assert {key["use"] for key in keys} == {"sig"}
    assert len({key["kid"] for key in keys}) == len(keys)
    assert not {name for key in keys for name in key} & {"d", "p", "q", "dp", "dq", "qi", "k"}
