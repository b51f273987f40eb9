"""Tokens: JWTs that this service signs and checks (RFC 7519, RFC 9068)."""

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
KINDS = (ACCESS, REFRESH, RESET, VERIFICATION)
"""The `typ` of each kind of token (access: RFC 9068): one kind is never accepted for another."""
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
    """How often the session had been refreshed when a refresh token was issued."""
    state: str = ""
    """A fingerprint of what the token may change; once that has changed, the token is spent."""

    @property
    def user_id(self) -> int:
        """The id of the user whom the token was issued to."""
        return int(self.sub)


class Tokens:
    """Signs and checks the tokens of one issuer, which is its own audience, by one fixed algorithm.

    Every token of a kind that was signed with a key has the same header, so a header is compared as a whole: there is
    no algorithm, type, key id or critical extension to confuse (RFC 8725). The previous key still verifies.
    """

    def __init__(self, *, secret: str, algorithm: str, issuer: str, previous_secret: str = "") -> None:
        self.secret = secret
        self.algorithm = algorithm
        self.issuer = issuer
        self.jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
        keys = [secret, previous_secret] if previous_secret else [secret]
        self.keys = {
            kind: {self._sign(kind, {}, key).partition(".")[0]: verifier(key, algorithm) for key in keys}
            for kind in KINDS
        }

    def issue(
        self, kind: str, user_id: int, lifetime: timedelta, *, sid: int = 0, gen: int = 0, state: str = ""
    ) -> str:
        """Return a signed token of one kind, valid from now on for `lifetime`."""
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
            state=state,
        )
        return self._sign(kind, to_builtins(claims), self.secret)

    def read(self, kind: str, token: str, *, expired_too: bool = False) -> Claims:
        """Return the claims of a token of that kind, which is valid, or was. Raise InvalidTokenError."""
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
    """HMAC with a key that was checked before: PyJWT checks it again at each token, which takes as long as the MAC."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Return the key as it is."""
        # Not reported: `_verify_signature` in jwt/api_jws.py.
        return force_bytes(key)


def verifier(secret: str, algorithm: str) -> PyJWK:
    """Return the key that verifies what the secret has signed."""
    key = PyJWK({"kty": "oct", "k": base64url_encode(secret.encode()).decode()}, algorithm)
    key.Algorithm = PreparedHMAC(HASHES[algorithm])
    return key


def fingerprint(text: str) -> str:
    """Return a short digest that tells two texts apart and gives neither away: 64 bits of SHA-256, in hexadecimal."""
    return sha256(text.encode()).hexdigest()[:16]
