"""Password hashes and tokens; knows neither HTTP nor the database."""

import os
import secrets
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from hashlib import sha256
from time import time
from typing import Annotated, TypeVar

import jwt
from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
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

HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
Result = TypeVar("Result")


class HashingOverloadedError(Exception):
    """More passwords wait to be hashed than the queue holds."""


class InvalidTokenError(Exception):
    """The token is malformed, forged, expired, or of another kind."""


class Passwords:
    """Argon2id (RFC 9106) with OWASP's parameters, in a few threads behind a bounded queue.

    A hash takes 19 MiB and some 30 ms of one core; without the bound, a burst of logins would take the memory and the
    event loop of the whole service.
    """

    def __init__(self, *, threads: int = 0, queue: int = 128) -> None:
        """`threads` hash at once (by default one less than there are cores), `queue` more may wait."""
        self.hasher = HASHER
        threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self.limiter = CapacityLimiter(threads)
        self.capacity = threads + queue
        self.pending = 0
        self.dummy = dummy_hash()

    async def hash(self, password: str) -> str:
        """The encoded hash. Raises HashingOverloadedError."""
        return await self._run(self.hasher.hash, normalise(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password is right; one hash is computed even when there is none to check against.

        Raises HashingOverloadedError.
        """
        matches = await self._run(self._verify, hashed or self.dummy, normalise(password))
        return matches and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self.hasher.check_needs_rehash(hashed)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self.hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Callable[..., Result], *args: str) -> Result:
        if self.pending >= self.capacity:
            raise HashingOverloadedError
        self.pending += 1
        try:
            return await to_thread.run_sync(function, *args, limiter=self.limiter)
        finally:
            self.pending -= 1


@cache
def dummy_hash() -> str:
    """What an unknown name is checked against, so that it takes as long as a known one; made once a process."""
    return HASHER.hash(secrets.token_urlsafe())


def normalise(password: str) -> str:
    """The same password however the keyboard composes its accents (NFKC, NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password)


class Claims(Struct, frozen=True, omit_defaults=True):
    """What a token says (RFC 7519): issuer, audience, subject (a user's id), and its own id and times in seconds."""

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
        """The user whom the token was issued to."""
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
        """A signed token of one kind, valid from now on for `lifetime`."""
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
        """The claims of a token of that kind, which is valid, or was. Raises InvalidTokenError."""
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
        """The key as it is."""
        return force_bytes(key)


def verifier(secret: str, algorithm: str) -> PyJWK:
    """The key that verifies what the secret has signed."""
    key = PyJWK({"kty": "oct", "k": base64url_encode(secret.encode()).decode()}, algorithm)
    key.Algorithm = PreparedHMAC(HASHES[algorithm])
    return key


def fingerprint(text: str) -> str:
    """A short digest that tells two texts apart and gives neither away: 64 bits of SHA-256, in hexadecimal."""
    return sha256(text.encode()).hexdigest()[:16]
