"""Hashes of passwords, computed in threads behind a bounded queue."""

import os
import secrets
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
Result = TypeVar("Result")


class HashingOverloadedError(Exception):
    """More passwords wait to be hashed than the queue holds."""


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
        """Return the encoded hash. Raise HashingOverloadedError."""
        return await self._run(self.hasher.hash, normalise(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Return whether the password is right; compute one hash even when there is none to check against.

        Raise HashingOverloadedError.
        """
        matches = await self._run(self._verify, hashed or self.dummy, normalise(password))
        return matches and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Return whether the hash was made with other parameters than today's."""
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
    """Return the hash that unknown names are checked against, so that they take as long as known ones."""
    return HASHER.hash(secrets.token_urlsafe())


def normalise(password: str) -> str:
    """Return the same password however the keyboard composes its accents (NFKC, NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password)
