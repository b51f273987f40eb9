"""Tokens: the JWTs that this service signs and verifies (RFC 7519, RFC 9068)."""

import secrets
from datetime import timedelta
from hashlib import sha256
from time import time
from typing import Annotated

import jwt
from jwt import PyJWK
from jwt.algorithms import HMACAlgorithm
from jwt.utils import base64url_encode, force_bytes
from msgspec import Meta, Struct, convert, to_builtins

ACCESS = "at+jwt"
REFRESH = "rt+jwt"
RESET = "reset+jwt"
VERIFICATION = "verification+jwt"
ADDRESS_UNDO = "address-undo+jwt"
KINDS = (ACCESS, REFRESH, RESET, VERIFICATION, ADDRESS_UNDO)
"""The `typ` header of each kind of token (RFC 9068 has that of access tokens). No kind is accepted for another."""
REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
LEEWAY_SECONDS = 30
HASHES = {"HS256": HMACAlgorithm.SHA256, "HS384": HMACAlgorithm.SHA384, "HS512": HMACAlgorithm.SHA512}


class InvalidTokenError(Exception):
    """The token is malformed, forged, expired, or of another kind."""


class Claims(Struct, frozen=True, omit_defaults=True):
    """The claims of a token (RFC 7519): issuer, audience, subject (a user's id), its own id, and times in seconds."""

    iss: str
    aud: str
    sub: Annotated[str, Meta(pattern="^[1-9][0-9]{0,17}$")]
    jti: str
    iat: int
    exp: int
    sid: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """The session of an access or a refresh token."""
    gen: int = 0
    """The generation of a refresh token: the number of times that its session had been refreshed before."""
    scope: str = ""
    """The scopes of an access token (RFC 9068, section 2.2.3); without any, it may do everything that its user may."""
    state: str = ""
    """A fingerprint of what a mailed token may change; once that has changed, the token no longer works."""

    @property
    def user_id(self) -> int:
        """The id of the user for whom the token was issued."""
        return int(self.sub)


class Tokens:
    """Signs and verifies the tokens of one issuer, which is also their audience, by one fixed algorithm.

    All tokens of one kind and key have the same header, so the header is compared as a whole: no algorithm, type, key
    id or critical extension can be confused (RFC 8725). Tokens of the previous key are still accepted.
    """

    def __init__(self, *, secret: str, algorithm: str, issuer: str, previous_secret: str = "") -> None:
        self.secret = secret
        self.algorithm = algorithm
        self.issuer = issuer
        self.jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
        keys = [secret, previous_secret] if previous_secret else [secret]
        self.keys = {
            kind: {self._sign(kind, {}, key).partition(".")[0]: verification_key(key, algorithm) for key in keys}
            for kind in KINDS
        }

    def issue(
        self,
        kind: str,
        user_id: int,
        lifetime: timedelta,
        *,
        sid: int = 0,
        gen: int = 0,
        scope: str = "",
        state: str = "",
    ) -> str:
        """Return a signed token of one kind, which is valid from now on for `lifetime`."""
        issued = int(time())
        claims = Claims(
            iss=self.issuer,
            aud=self.issuer,
            sub=str(user_id),
            jti=secrets.token_urlsafe(12),
            iat=issued,
            exp=issued + int(lifetime.total_seconds()),
            sid=sid,
            gen=gen,
            scope=scope,
            state=state,
        )
        return self._sign(kind, to_builtins(claims), self.secret)

    def read(self, kind: str, token: str, *, expired_too: bool = False) -> Claims:
        """Return the claims of a valid token of one kind, or with `expired_too` of an expired one.

        Clocks may differ by LEEWAY_SECONDS. Raise InvalidTokenError.
        """
        key = self.keys[kind].get(token.partition(".")[0])
        if key is None:
            raise InvalidTokenError
        try:
            payload = self.jwt.decode(
                token,
                key,
                algorithms=[self.algorithm],
                issuer=self.issuer,
                audience=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED, "strict_aud": True, "verify_exp": not expired_too},
            )
            return convert(payload, Claims)
        except (jwt.InvalidTokenError, ValueError) as error:
            raise InvalidTokenError from error

    def _sign(self, kind: str, claims: dict[str, object], key: str) -> str:
        return self.jwt.encode(claims, key, algorithm=self.algorithm, headers={"typ": kind, "kid": fingerprint(key)})


class PreparedHMAC(HMACAlgorithm):
    """HMAC with a key that was checked once; PyJWT checks it for each token, which takes as long as the MAC itself."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Return the key as bytes, unchecked."""
        # Not reported: `_verify_signature` in jwt/api_jws.py.
        return force_bytes(key)


def verification_key(secret: str, algorithm: str) -> PyJWK:
    """Return the key that verifies the tokens signed with a secret."""
    key = PyJWK({"kty": "oct", "k": base64url_encode(secret.encode()).decode()}, algorithm)
    key.Algorithm = PreparedHMAC(HASHES[algorithm])
    return key


def fingerprint(text: str) -> str:
    """Return a short digest that tells texts apart and doesn't reveal them: 64 bits of SHA-256, in hexadecimal."""
    return sha256(text.encode()).hexdigest()[:16]
