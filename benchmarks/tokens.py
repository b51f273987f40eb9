"""Access tokens of the two peers, with the project's own claims and checks."""

import os
import secrets
import time

import jwt

ALGORITHM = "HS256"
ISSUER = "http://127.0.0.1"
AUDIENCE = "http://127.0.0.1"
LIFETIME = 30 * 60  # seconds

SECRET_KEY = os.environ["SECRET_KEY"]


def issue(*, user_id: int, session_id: int) -> str:
    """Return a signed access token in the profile of RFC 9068."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user_id),
        "sid": str(session_id),
        "jti": secrets.token_hex(16),
        "iat": now,
        "exp": now + LIFETIME,
    }
    return jwt.encode(claims, SECRET_KEY, ALGORITHM, headers={"typ": "at+jwt"})


def verify(token: str) -> tuple[int, int]:
    """Return the ids of the session and the user. Raises jwt.InvalidTokenError."""
    decoded = jwt.decode_complete(
        token,
        SECRET_KEY,
        algorithms=[ALGORITHM],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"require": ["exp", "sub", "sid"]},
    )
    if decoded["header"].get("typ") != "at+jwt":
        raise jwt.InvalidTokenError("not an access token")
    return int(decoded["payload"]["sid"]), int(decoded["payload"]["sub"])
