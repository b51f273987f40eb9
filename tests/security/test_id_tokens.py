"""ID tokens, as libraries of OpenID Connect check them by the published keys."""

from datetime import UTC, datetime, timedelta

import pytest
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet
from litestar import Litestar

from app.security.id_tokens import ALGORITHMS, IdTokens
from app.security.tokens import ACCESS, InvalidTokenError
from tests.factories import connect_to, on_sqlite, parts_of

SIGNED_IN = datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)
ISSUER = "http://127.0.0.1:8000"


async def issue(app: Litestar, algorithm: str, nonce: str | None) -> tuple[str, str]:
    """Return an access token of a user's, and the ID token beside it."""
    parts = parts_of(app)
    access_token = parts.tokens.issue(ACCESS, 7, timedelta(minutes=30), sid=9)
    id_token = await IdTokens(parts.signing_keys, parts.settings.url).issue(
        "app",
        7,
        alg=algorithm,
        nonce=nonce,
        auth_time=SIGNED_IN,
        amr="pwd otp mfa",
        access_token=access_token,
        lifetime=timedelta(minutes=30),
    )
    return access_token, id_token


@on_sqlite
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("nonce", [None, "n-0S6_WzA2Mj"])
async def test_a_library_accepts_an_id_token_by_the_published_keys(
    app: Litestar, algorithm: str, nonce: str | None
) -> None:
    """It checks all that OpenID Connect Core says, section 3.1.3.7."""
    async with connect_to(app) as client:
        access_token, id_token = await issue(app, algorithm, nonce)
        keys = (await client.get("/.well-known/jwks.json")).json()
        decoded = jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=[algorithm])
        checked = {"iss": {"value": ISSUER}, "aud": {"value": "app"}, "sub": {"value": "7"}}
        params = {"access_token": access_token, "nonce": nonce, "max_age": 600, "client_id": "app"}
        claims = CodeIDToken(decoded.claims, decoded.header, checked, params)
        claims.validate()
        assert (claims["auth_time"], claims["amr"]) == (int(SIGNED_IN.timestamp()), ["pwd", "otp", "mfa"])
        assert claims["exp"] - claims["iat"] == 1800
        assert claims.get("nonce") == nonce
        assert "at_hash" in claims
        answer = await client.get("/users/me", headers={"Authorization": f"Bearer {id_token}"})
        assert answer.status_code == 401
    with pytest.raises(InvalidTokenError):
        parts_of(app).tokens.read(ACCESS, id_token)


@on_sqlite
async def test_no_other_algorithm_signs_one(app: Litestar) -> None:
    async with connect_to(app):
        for algorithm in ("HS256", "EdDSA", "none", ""):
            with pytest.raises(ValueError, match="No ID token is signed by"):
                await issue(app, algorithm, None)
