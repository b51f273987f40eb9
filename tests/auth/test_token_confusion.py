"""Tokens that aren't what they seem: every one of them is 401 at the guard, and nothing else (RFC 8725)."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from time import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select

from app.auth.models import LoginSession
from app.security.tokens import ACCESS, REFRESH, RESET, VERIFICATION, Tokens
from app.settings import Settings
from tests.auth.oauth import Pair, fetch, new_user, refresh, status_of
from tests.factories import SECRET, add_user, log_in

Claims = dict[str, Any]


def claims_of(pair: Pair) -> Claims:
    """Return the claims of the access token."""
    claims: Claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    return claims


def header_of(pair: Pair) -> dict[str, Any]:
    """Return the header of the access token."""
    header: dict[str, Any] = jwt.get_unverified_header(pair["access_token"])
    return header


def forge(header: dict[str, Any], claims: Claims, key: str = SECRET) -> str:
    """Return a token with a header of one's choice, signed by HMAC with SHA-256 whatever the header says."""
    signer = jwt.get_algorithm_by_name("HS256")
    text = f"{encode(header)}.{encode(claims)}"
    signature = signer.sign(text.encode(), key.encode())
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def encode(part: object) -> str:
    """Return a part of a token in its encoded form."""
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).rstrip(b"=").decode()


async def check_refused(client: AsyncClient, token: str, why: str = "") -> None:
    """Check that the token is worth nothing, and that the answer doesn't tell why."""
    answer = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401, why
    assert answer.json()["detail"] == "Could not validate credentials"
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token", error_description="')


async def test_a_token_says_what_the_contract_says(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """It has the claims of RFC 9068, and the session."""
    pair = await new_user(app)
    (row,) = await fetch(app, select(LoginSession.id, LoginSession.user_id))
    claims = claims_of(pair)
    assert claims.keys() == {"iss", "aud", "sub", "sid", "jti", "iat", "exp"}
    assert claims["iss"] == claims["aud"] == settings.url
    assert claims["sub"] == str(row.user_id)
    assert claims["sid"] == row.id
    assert claims["exp"] - claims["iat"] == 30 * 60
    assert header_of(pair) == {"alg": "HS256", "typ": "at+jwt", "kid": header_of(pair)["kid"]}
    assert claims_of(await new_user(app, "bob"))["jti"] != claims["jti"]
    assert await status_of(client, pair) == 200


async def test_a_token_that_is_signed_anew_as_it_was_is_accepted(app: Litestar, client: AsyncClient) -> None:
    """The tests below therefore refuse a token for its change alone."""
    pair = await new_user(app)
    assert forge(header_of(pair), claims_of(pair)) == pair["access_token"]
    assert await status_of(client, pair) == 200


CHANGED_HEADERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "no algorithm": lambda header: header | {"alg": "none"},
    "no algorithm, oddly spelled": lambda header: header | {"alg": "nOnE"},
    "an algorithm of another length": lambda header: header | {"alg": "HS512"},
    "an algorithm of public keys": lambda header: header | {"alg": "RS256"},
    "an algorithm that nobody knows": lambda header: header | {"alg": "XX"},
    "an algorithm that is a list": lambda header: header | {"alg": ["HS256"]},
    "no algorithm at all": lambda header: {name: header[name] for name in ("typ", "kid")},
    "another key's id": lambda header: header | {"kid": "0123456789abcdef"},
    "a path as key's id": lambda header: header | {"kid": "../../dev/null"},
    "no key's id": lambda header: {name: header[name] for name in ("typ", "alg")},
    "a plain JWT's type": lambda header: header | {"typ": "JWT"},
    "a refresh token's type": lambda header: header | {"typ": REFRESH},
    "a long media type": lambda header: header | {"typ": "application/at+jwt"},
    "no type": lambda header: {name: header[name] for name in ("alg", "kid")},
    "a critical extension": lambda header: header | {"crit": ["exp"]},
    "a critical extension that nobody knows": lambda header: header | {"crit": ["urgent"], "urgent": True},
    "an unencoded payload": lambda header: header | {"crit": ["b64"], "b64": False},
    "a key of its own": lambda header: header | {"jwk": {"kty": "oct", "k": encode(SECRET)}},
    "the address of a key": lambda header: header | {"jku": "https://evil.example.net/keys"},
}


async def test_a_token_with_another_header_is_refused(app: Litestar, client: AsyncClient) -> None:
    """Every token of one kind has the same header, so the right signature doesn't help."""
    pair = await new_user(app)
    for name, change in CHANGED_HEADERS.items():
        await check_refused(client, forge(change(header_of(pair)), claims_of(pair)), name)


async def test_an_unsigned_token_is_refused(app: Litestar, client: AsyncClient) -> None:
    """The header says "none", or is the right one over an empty signature."""
    pair = await new_user(app)
    header, payload, _ = pair["access_token"].split(".")
    await check_refused(client, f"{header}.{payload}.")
    await check_refused(client, f"{header}.{payload}")
    await check_refused(client, jwt.encode(claims_of(pair), "", "none", {"typ": "at+jwt"}))


async def test_a_token_of_a_public_key_is_refused(app: Litestar, client: AsyncClient) -> None:
    """It is refused whoever brings the key."""
    pair = await new_user(app)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    await check_refused(client, jwt.encode(claims_of(pair), key, "RS256", header_of(pair) | {"alg": "RS256"}))


async def test_a_token_of_another_key_is_refused(app: Litestar, client: AsyncClient) -> None:
    """Everything else about the token is right."""
    pair = await new_user(app)
    for key in ("", "secret", "x" * 32, SECRET + "x", SECRET[:-1]):
        await check_refused(client, forge(header_of(pair), claims_of(pair), key), key)


CHANGED_CLAIMS: dict[str, Claims] = {
    "another issuer": {"iss": "https://other.example.org"},
    "several issuers": {"iss": ["http://127.0.0.1:8000"]},
    "another audience": {"aud": "https://other.example.org"},
    "several audiences": {"aud": ["http://127.0.0.1:8000", "https://other.example.org"]},
    "the audience with a slash": {"aud": "http://127.0.0.1:8000/"},
    "the past": {"exp": int(time()) - 3600},
    "a time that is no number": {"exp": "tomorrow"},
    "a time to come": {"iat": int(time()) + 3600},
    "no session": {"sid": 0},
    "a session that is no number": {"sid": "1"},
    "no user": {"sub": ""},
    "a user that is no text": {"sub": 1},
    "a user by name": {"sub": "alice"},
    "a user that is out of bounds": {"sub": str(2**64)},
    "a session that is out of bounds": {"sid": 2**64},
}


async def test_a_token_that_claims_something_else_is_refused(app: Litestar, client: AsyncClient) -> None:
    """It is refused even with the right header and signature."""
    pair = await new_user(app)
    for name, changed in CHANGED_CLAIMS.items():
        await check_refused(client, forge(header_of(pair), claims_of(pair) | changed), name)


async def test_a_token_that_lacks_a_claim_is_refused(app: Litestar, client: AsyncClient) -> None:
    pair = await new_user(app)
    claims = claims_of(pair)
    for name in claims:
        rest = {key: value for key, value in claims.items() if key != name}
        await check_refused(client, forge(header_of(pair), rest), name)


async def test_an_access_token_is_no_refresh_token(app: Litestar, client: AsyncClient) -> None:
    """The attempt ends no session."""
    pair = await new_user(app)
    assert (await refresh(client, pair["access_token"])).json()["error"] == "invalid_grant"
    assert await status_of(client, pair) == 200


@pytest.mark.parametrize("kind", [RESET, VERIFICATION])
async def test_a_mailed_token_is_no_access_or_refresh_token(
    app: Litestar, client: AsyncClient, kind: str, tokens: Tokens
) -> None:
    """It is refused even when it names a session."""
    await new_user(app)
    (row,) = await fetch(app, select(LoginSession.id, LoginSession.user_id))
    token = tokens.issue(kind, row.user_id, timedelta(days=1), sid=row.id)
    await check_refused(client, token)
    assert (await refresh(client, token)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("path", ["/password-reset/confirm", "/email-verification/confirm"])
async def test_no_other_token_passes_for_a_mailed_one(
    app: Litestar, client: AsyncClient, path: str, tokens: Tokens
) -> None:
    """Those of a login and those of the other mail are all refused."""
    pair = await new_user(app)
    (row,) = await fetch(app, select(LoginSession.user_id))
    other = VERIFICATION if path.startswith("/password") else RESET
    others = [pair["access_token"], pair["refresh_token"], tokens.issue(other, row.user_id, timedelta(days=1))]
    extra = {"new_password": "anything"} if path.startswith("/password") else {}
    for token in others:
        answer = await client.post(path, json={"token": token, **extra})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_token_does_not_outlive_its_user(app: Litestar, client: AsyncClient) -> None:
    """The next user of the name is somebody else."""
    pair = await new_user(app)
    answer = await client.delete("/users/me", headers={"Authorization": f"Bearer {pair['access_token']}"})
    assert answer.status_code == 204
    again = await add_user(app, "alice")
    assert str(again.id) != claims_of(pair)["sub"]
    await check_refused(client, pair["access_token"])
    assert (await refresh(client, pair)).json()["error"] == "invalid_grant"
    fresh = (await log_in(client, "alice")).json()
    assert await status_of(client, fresh) == 200
    await check_refused(client, pair["access_token"])


async def test_a_token_of_another_service_with_the_same_key_is_refused(app: Litestar, client: AsyncClient) -> None:
    """Issuer and audience tell two installations apart that an operator gave one key."""
    await new_user(app)
    (row,) = await fetch(app, select(LoginSession.id, LoginSession.user_id))
    other = Tokens(secret=SECRET, algorithm="HS256", issuer="https://staging.example.org")
    await check_refused(client, other.issue(ACCESS, row.user_id, timedelta(days=1), sid=row.id))
