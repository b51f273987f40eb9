"""Password hashes and tokens; knows neither HTTP nor the database."""

import os
import secrets
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from time import time
from typing import TypeVar

import jwt
from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Struct, convert

ACCESS = "at+jwt"
"""The `typ` of access tokens (RFC 9068): one kind of token is never accepted for another."""
LEEWAY_SECONDS = 30

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
        self.hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self.limiter = CapacityLimiter(threads)
        self.capacity = threads + queue
        self.pending = 0
        # What an unknown name is checked against, so that it takes as long as a known one.
        self.dummy = self.hasher.hash(secrets.token_urlsafe())

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


def normalise(password: str) -> str:
    """The same password however the keyboard composes its accents (NFKC, NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password)


class Claims(Struct, frozen=True):
    """What a token says (RFC 7519): issuer, audience, subject (a user's id), session, and its own id and times."""

    iss: str
    aud: str
    sub: str
    sid: int
    jti: str
    iat: int
    exp: int


class Tokens:
    """Signs and checks the tokens of one issuer, which is its own audience, by one fixed algorithm."""

    def __init__(self, *, secret: str, algorithm: str, issuer: str) -> None:
        self.secret = secret
        self.algorithm = algorithm
        self.issuer = issuer
        self.jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    def issue(self, kind: str, *, user_id: int, session_id: int, lifetime: timedelta) -> str:
        """A signed token of one kind, valid from now on for `lifetime`."""
        issued = int(time())
        claims = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": str(user_id),
            "sid": session_id,
            "jti": secrets.token_urlsafe(12),
            "iat": issued,
            "exp": issued + int(lifetime.total_seconds()),
        }
        return self.jwt.encode(claims, self.secret, algorithm=self.algorithm, headers={"typ": kind})

    def read(self, kind: str, token: str) -> Claims:
        """The claims of a valid token of that kind. Raises InvalidTokenError."""
        try:
            decoded = self.jwt.decode_complete(
                token,
                self.secret,
                algorithms=[self.algorithm],
                issuer=self.issuer,
                audience=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "strict_aud": True},
            )
            if decoded["header"].get("typ") != kind:
                raise InvalidTokenError
            return convert(decoded["payload"], Claims)
        except (jwt.InvalidTokenError, ValueError) as error:
            raise InvalidTokenError from error
