"""Rate limits of logins and mails, and the client that they count.

The counts are in this process, or in a Redis or Valkey that all processes share. While that is unreachable, each
process counts for itself: no client is locked out, no limit is lifted, and no request waits longer than
ANSWER_WITHIN_SECONDS.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from math import ceil
from time import monotonic, time
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.memory import Entry
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from msgspec import Struct

from app.errors import TooManyRequests

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

FAILED_LOGINS = RateLimitItemPerMinute(10, 15, namespace="failed-logins")
"""Counted by account and client network, so that another's wrong passwords don't lock the owner out."""
FAILED_LOGINS_PER_NETWORK = RateLimitItemPerMinute(100, 15, namespace="failed-logins-per-network")
PASSWORD_RESETS = RateLimitItemPerHour(5, namespace="password-resets")
"""Counted by e-mail address and client network, so that a stranger's requests don't keep the owner from asking."""
PASSWORD_RESETS_PER_NETWORK = RateLimitItemPerHour(50, namespace="password-resets-per-network")
EMAIL_VERIFICATIONS = RateLimitItemPerHour(5, namespace="email-verifications")
"""Counted by e-mail address: only its account can ask."""
EMAIL_VERIFICATIONS_PER_NETWORK = RateLimitItemPerHour(50, namespace="email-verifications-per-network")
WRONG_CODES = RateLimitItemPerMinute(10, 15, namespace="wrong-codes")
"""Counted by account, for all networks together: whoever guesses codes knows the password."""
WRONG_CODE_MAILS = RateLimitItemPerMinute(1, 15, namespace="wrong-code-mails")

ANSWER_WITHIN_SECONDS = 0.25
RETRY_AFTER_SECONDS = 5
CONNECTIONS = 32
MAX_KEYS = 50_000

Result = TypeVar("Result")
log = structlog.stdlib.get_logger()


class Limits:
    """Counts in moving windows. Their keys are hashed with the service's secret: no name or address is stored."""

    def __init__(self, storage_url: str = "", *, secret: str = "") -> None:
        """Count in the storage at a URL, as in RATE_LIMIT_STORAGE; without one, in this process."""
        self.key = blake2b(secret.encode(), person=b"limits").digest()
        self.local = MovingWindowRateLimiter(OrderedMemoryStorage())
        self.pool = connection_pool(storage_url) if storage_url else None
        self.shared = shared_limiter(self.pool) if self.pool else None
        self.suspended_until = 0.0

    async def check(self, limit: RateLimitItem, *key: str) -> None:
        """Raise TooManyRequests when the limit is used up; count nothing."""
        name = self.storage_key(key)
        window = await self._run(lambda limiter: limiter.get_window_stats(limit, name))
        if window.remaining < 1:
            raise TooManyRequests(max(1, ceil(window.reset_time - time())))

    async def hit(self, limit: RateLimitItem, *key: str) -> None:
        """Count one more, atomically; or count nothing, and raise TooManyRequests, when the limit is used up."""
        name = self.storage_key(key)
        if not await self._run(lambda limiter: limiter.hit(limit, name)):
            window = await self._run(lambda limiter: limiter.get_window_stats(limit, name))
            raise TooManyRequests(max(1, ceil(window.reset_time - time())))

    async def verify_within_limits(self, verify: Callable[[], Awaitable[bool]], *, account: str, network: str) -> bool:
        """Return whether a password is right, within the limits of failed logins.

        Raise TooManyRequests when a limit is used up, for a right password too.

        Only wrong passwords are counted, so they are counted after the verification. Of passwords that are tried at the
        same time, all may be verified, which the queue of hashes bounds; but no more than the limit are answered. A
        wrong one is counted atomically or refused, and a right one is refused when the limit was used up meanwhile.
        """
        await self.check(FAILED_LOGINS, account, network)
        await self.check(FAILED_LOGINS_PER_NETWORK, network)
        matches = await verify()
        count = self.check if matches else self.hit
        await count(FAILED_LOGINS, account, network)
        await count(FAILED_LOGINS_PER_NETWORK, network)
        return matches

    async def ping(self) -> None:
        """Ask the shared storage for an answer, where there is one. Raise redis.RedisError and OSError."""
        if self.pool:
            from redis.asyncio import Redis  # noqa: PLC0415 - see connection_pool

            # Its annotation is that of the client without asyncio, too.
            client: Any = Redis(connection_pool=self.pool)
            await client.ping()

    async def close(self) -> None:
        """Close the connections to the shared storage."""
        if self.pool:
            await self.pool.disconnect()

    def storage_key(self, parts: Sequence[str]) -> str:
        """Return the key in the storage, from which its parts can't be told."""
        text = "\0".join(parts).encode(errors="surrogatepass")
        return blake2b(text, key=self.key, digest_size=16).hexdigest()

    async def _run(self, operation: Callable[[MovingWindowRateLimiter], Awaitable[Result]]) -> Result:
        """Run an operation on the shared storage, or on this process's own while that is unreachable."""
        if self.shared and monotonic() >= self.suspended_until:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                    return await operation(self.shared)
            except (StorageError, OSError, TimeoutError) as error:
                self._suspend_shared(error)
        return await operation(self.local)

    def _suspend_shared(self, error: Exception) -> None:
        """Leave the shared storage alone for RETRY_AFTER_SECONDS; log one warning, however many requests failed."""
        if monotonic() >= self.suspended_until:
            self.suspended_until = monotonic() + RETRY_AFTER_SECONDS
            cause = error.__cause__ if isinstance(error, StorageError) else error
            log.warning("rate limit storage unavailable, each process counts for itself", cause=type(cause).__name__)


class OrderedMemoryStorage(MemoryStorage):
    """The library's storage in this process, with a faster deletion of expired keys.

    At each hit the library goes through all keys, and switches to a thread for each: 2.6 s of CPU for 50,000 keys. Here
    they are in the order of their last hit. A hit deletes the first ones when they have expired, or when there are more
    than MAX_KEYS, which take some 25 MB.
    """

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` more, unless that exceeds `limit` in `expiry` seconds: atomically, since it awaits nothing."""
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
        """Delete the keys whose last hit is longest ago, while they have expired or are more than MAX_KEYS."""
        while oldest := next(iter(self.events), None):
            if len(self.events) <= MAX_KEYS and self.events[oldest][0].expiry > time():
                return
            del self.events[oldest]


def connection_pool(url: str) -> "BlockingConnectionPool":
    """Return a pool of connections to a Redis or Valkey, which speak one protocol; each is opened when it is needed."""
    # Imported here since it takes 11 MB, and most services have one process and no Redis.
    from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 - only where it is needed

    address = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    return BlockingConnectionPool.from_url(address, max_connections=CONNECTIONS, timeout=None)


def shared_limiter(pool: "BlockingConnectionPool") -> MovingWindowRateLimiter:
    """Return a limiter that counts in the Redis or Valkey of a pool, each time by one atomic script."""
    # The library passes all options on to its driver; its annotation has the common ones only.
    options: dict[str, Any] = {"connection_pool": pool}
    storage = RedisStorage("async+redis://", wrap_exceptions=True, implementation="redispy", **options)
    return MovingWindowRateLimiter(storage)


class Client(Struct, frozen=True):
    """The client of a request: its IP address, the network by which limits count it, and its User-Agent."""

    address: str
    network: str
    device: str


def account_of_id(user_id: int) -> str:
    """Return the name under which guesses at a user's password are counted."""
    return f"user {user_id}"


def account_of_name(name_key: str) -> str:
    """Return the name under which guesses at a name without an account are counted."""
    return f"name {name_key}"


def registrations_per_hour(most: int) -> RateLimitItem:
    """Return the limit on the registrations of one client network."""
    return RateLimitItemPerHour(most, namespace="registrations")
