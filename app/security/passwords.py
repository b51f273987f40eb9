"""The hashes of passwords, which are computed in threads behind a bounded queue."""

import os
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MAX_CHARACTERS = 256
"""Of a password that an account can have."""
HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
Result = TypeVar("Result")


class HashingOverloadedError(Exception):
    """The queue of passwords that wait for their hash is full."""


class Passwords:
    """Argon2id (RFC 9106) with OWASP's parameters, in a few threads behind a bounded queue.

    A hash takes 19 MiB and some 30 ms of one core. Without the threads and the bound, a burst of logins would block the
    event loop, and take all memory.
    """

    def __init__(self, *, threads: int = 0, queue: int = 128) -> None:
        """Hash in so many `threads` (0: one less than there are cores), while at most `queue` more passwords wait."""
        self.hasher = HASHER
        threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self.limiter = CapacityLimiter(threads)
        self.capacity = threads + queue
        self.pending = 0
        self.dummy = dummy_hash()

    async def hash(self, password: str) -> str:
        """Return the encoded hash. Raise HashingOverloadedError."""
        return await self.run(self._hash, password)

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Return whether a password has the hash; without a hash, compute one all the same, so that it takes as long.

        Raise HashingOverloadedError.
        """
        matches = await self.run(self._verify, hashed or self.dummy, password)
        return matches and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Return whether a hash has other parameters than new ones have."""
        return self.hasher.check_needs_rehash(hashed)

    def _hash(self, password: str) -> str:
        return self.hasher.hash(normalise(password))

    def _verify(self, hashed: str, password: str) -> bool:
        # What no account can have takes one hash like all others, but isn't normalised, which takes time by its square.
        possible = len(password) <= MAX_CHARACTERS
        try:
            self.hasher.verify(hashed, normalise(password) if possible else "")
        except (VerificationError, InvalidHashError):
            return False
        return possible

    async def run(self, function: Callable[..., Result], *args: str) -> Result:
        """Return what the function returns, computed in one of the threads. Raise HashingOverloadedError.

        Whatever takes long for some password runs there, and never in the event loop.
        """
        if self.pending >= self.capacity:
            raise HashingOverloadedError
        self.pending += 1
        try:
            return await to_thread.run_sync(function, *args, limiter=self.limiter)
        finally:
            self.pending -= 1


def dummy_hash() -> str:
    """Return a hash of no password for logins with unknown names, which then take as long as those with known ones."""
    # Its bytes are random: to compute a hash would be a thirtieth of the start.
    sizes = HASHER.salt_len, HASHER.hash_len
    salt, digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in sizes)
    return f"$argon2id$v=19$m={HASHER.memory_cost},t={HASHER.time_cost},p={HASHER.parallelism}${salt}${digest}"


def normalise(password: str) -> str:
    """Return a password in the normal form NFKC (NIST SP 800-63B), since keyboards compose accents differently."""
    return unicodedata.normalize("NFKC", password)
