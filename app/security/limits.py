"""Limits on how often something may be tried, and the client that they count.

The counts are in this process, or in a Redis or Valkey that all processes share. While that is away, each process
counts for itself: nobody is locked out, no limit is lifted, and no request waits longer than `ANSWER_WITHIN_SECONDS`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from math import ceil
from time import monotonic, time
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from limits import RateLimitItem as Limit
from limits import RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.memory import Entry
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from msgspec import Struct

from app.errors import TooManyRequests

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

FAILED_LOGINS = RateLimitItemPerMinute(10, 15, namespace="failed-logins")
"""By account and client network, so that a stranger's wrong guesses don't lock the owner out."""
FAILED_LOGINS_PER_NETWORK = RateLimitItemPerMinute(100, 15, namespace="failed-logins-per-network")
PASSWORD_RESETS = RateLimitItemPerHour(5, namespace="password-resets")
"""By mailbox, as are verifications."""
PASSWORD_RESETS_PER_NETWORK = RateLimitItemPerHour(50, namespace="password-resets-per-network")
EMAIL_VERIFICATIONS = RateLimitItemPerHour(5, namespace="email-verifications")
EMAIL_VERIFICATIONS_PER_NETWORK = RateLimitItemPerHour(50, namespace="email-verifications-per-network")

ANSWER_WITHIN_SECONDS = 0.25
RETRY_AFTER_SECONDS = 5
CONNECTIONS = 32
MAX_KEYS = 50_000

Result = TypeVar("Result")
log = structlog.stdlib.get_logger()


class Limits:
    """Counts by moving windows. A key's parts are hashed with the service's secret: no name or address is stored."""

    def __init__(self, storage_url: str = "", *, secret: str = "") -> None:
        """`storage_url` as in RATE_LIMIT_STORAGE; empty, the counts are in this process."""
        self.key = blake2b(secret.encode(), person=b"limits").digest()
        self.local = MovingWindowRateLimiter(Memory())
        self.pool = connection_pool(storage_url) if storage_url else None
        self.shared = shared_limiter(self.pool) if self.pool else None
        self.away_until = 0.0

    async def check(self, limit: Limit, *key: str) -> None:
        """Raise TooManyRequests unless one more would be allowed; count nothing."""
        name = self.hashed(key)
        window = await self._ask(lambda limiter: limiter.get_window_stats(limit, name))
        if window.remaining < 1:
            raise TooManyRequests(max(1, ceil(window.reset_time - time())))

    async def hit(self, limit: Limit, *key: str) -> None:
        """Count one more, in one atomic step. Raise TooManyRequests for what is over the limit, and don't count it."""
        name = self.hashed(key)
        if not await self._ask(lambda limiter: limiter.hit(limit, name)):
            window = await self._ask(lambda limiter: limiter.get_window_stats(limit, name))
            raise TooManyRequests(max(1, ceil(window.reset_time - time())))

    async def clear(self, limit: Limit, *key: str) -> None:
        """Forget what was counted."""
        name = self.hashed(key)
        await self._ask(lambda limiter: limiter.clear(limit, name))

    async def guess(self, verify: Callable[[], Awaitable[bool]], *, account: str, network: str) -> bool:
        """Return whether a password is right, within the limits of failed logins.

        Raise TooManyRequests, for a right one too.

        A right password is counted nowhere, so counting comes after the verification. Of guesses made at the same time
        all may be verified, which the queue of hashes bounds, but only as many as the limit are told apart: each wrong
        one takes its place atomically or is refused, and a right one is refused when all places are taken meanwhile.
        """
        await self.check(FAILED_LOGINS, account, network)
        await self.check(FAILED_LOGINS_PER_NETWORK, network)
        matches = await verify()
        count = self.check if matches else self.hit
        await count(FAILED_LOGINS, account, network)
        await count(FAILED_LOGINS_PER_NETWORK, network)
        return matches

    async def close(self) -> None:
        """Close the connections to the shared storage."""
        if self.pool:
            await self.pool.disconnect()

    def hashed(self, parts: Sequence[str]) -> str:
        """Return a name for the key that tells nothing about it."""
        text = "\0".join(parts).encode(errors="surrogatepass")
        return blake2b(text, key=self.key, digest_size=16).hexdigest()

    async def _ask(self, question: Callable[[MovingWindowRateLimiter], Awaitable[Result]]) -> Result:
        """Put a question to the shared storage, or to this process's own while that is away."""
        if self.shared and monotonic() >= self.away_until:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                    return await question(self.shared)
            except (StorageError, OSError, TimeoutError) as error:
                self._leave_alone(error)
        return await question(self.local)

    def _leave_alone(self, error: Exception) -> None:
        """Don't ask the shared storage again for a while; one warning, however many requests were waiting for it."""
        if monotonic() >= self.away_until:
            self.away_until = monotonic() + RETRY_AFTER_SECONDS
            cause = error.__cause__ if isinstance(error, StorageError) else error
            log.warning("rate limit storage unavailable, each process counts for itself", cause=type(cause).__name__)


class Memory(MemoryStorage):
    """The library's counts in this process, forgotten another way.

    At each hit the library looks through all keys, with a switch to a thread for each: 2.6 s of CPU for 50,000 keys.
    Here they are in the order of their last hit, and a hit drops the first ones when they have expired, or when there
    are more than `MAX_KEYS` (some 25 MB).
    """

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` more, unless that exceeds `limit` in `expiry` seconds; it awaits nothing, so it is atomic."""
        # Not reported: `__expire_events` in limits/aio/storage/memory.py.
        entries = self.events.get(key, [])
        room = limit - amount
        if room < 0 or (len(entries) > room and entries[room].atime >= time() - expiry):
            return False
        self.events.pop(key, None)
        self.events[key] = [Entry(expiry)] * amount + entries[:room]
        self.forget()
        return True

    def forget(self) -> None:
        """Drop what has expired, and what is too much, from the key whose last hit is longest ago."""
        while oldest := next(iter(self.events), None):
            if len(self.events) <= MAX_KEYS and self.events[oldest][0].expiry > time():
                return
            del self.events[oldest]


def connection_pool(url: str) -> "BlockingConnectionPool":
    """Return connections to a Redis or Valkey, which speak the same protocol; made when they are first needed."""
    # Imported here since it takes 11 MB, and most services have one process and no Redis.
    from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 - only where it is needed

    address = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    return BlockingConnectionPool.from_url(address, max_connections=CONNECTIONS, timeout=None)


def shared_limiter(pool: "BlockingConnectionPool") -> MovingWindowRateLimiter:
    """Return a limiter whose counts are behind those connections, each counted by one script that is atomic."""
    # The library passes its options on as they are; its annotation names the plain ones only.
    options: dict[str, Any] = {"connection_pool": pool}
    storage = RedisStorage("async+redis://", wrap_exceptions=True, implementation="redispy", **options)
    return MovingWindowRateLimiter(storage)


class Client(Struct, frozen=True):
    """A caller's address, the network that limits count it by, and its User-Agent."""

    address: str
    network: str
    device: str
