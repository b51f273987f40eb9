"""The service's signing keys: made at first need, kept encrypted in the database, and replaced by rotation.

Each algorithm has a sequence of keys, of which one signs at any time. A new one is published at once, and signs when
nobody can still have a list of keys without it. The one before is published until its last token has expired. So
whoever verifies tokens by the published keys is never sent one by a key that they can't find.

Each process has the keys in memory. It reads them once a minute, where it needs them, and no request has to wait.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import groupby
from time import monotonic

import structlog
from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from app.database.background import Background
from app.database.models import now
from app.errors import Unavailable
from app.security.encryption import Encryption, UndecryptableError
from app.security.signing.algorithms import JWK, SigningKey
from app.security.signing.repository import KeyRow, SigningKeyRepository

CACHE_SECONDS = 600
"""The time for which others may keep the list of published keys."""
RELOAD_SECONDS = 60
"""The time for which a process keeps what it has read."""
CLOCKS = timedelta(minutes=1)
"""The most by which clocks differ, with some time to spare for a process that has to read again."""
PUBLISHED_AHEAD = timedelta(seconds=CACHE_SECONDS + RELOAD_SECONDS) + CLOCKS
LOOK_AGAIN_SECONDS = 5
RETRY_SECONDS = 2
ANSWER_WITHIN_SECONDS = 10
MOST_ROUNDS = 3
"""How often a key is made anew because another process, with another SECRET_KEY, has made one of that number."""

log = structlog.stdlib.get_logger("signing_keys")


class Scheduled(Struct, frozen=True):
    """A key, and when it signs and is published."""

    key: SigningKey
    signs_from: datetime
    signs_until: datetime | None
    """The moment at which the next key signs; None for the newest."""
    token_seconds: int

    @property
    def expires_at(self) -> datetime | None:
        """The moment at which its last token has expired, on every clock; None for the newest key."""
        if self.signs_until is None:
            return None
        return self.signs_until + timedelta(seconds=self.token_seconds) + 2 * CLOCKS

    def has_expired(self, moment: datetime) -> bool:
        """Return whether no token that it signed is valid any more."""
        return self.expires_at is not None and self.expires_at <= moment

    def may_sign(self, moment: datetime) -> bool:
        """Return whether it signs, or will."""
        return self.signs_until is None or self.signs_until > moment


Observer = Callable[[Sequence[Scheduled]], None]


class SigningKeys:
    """The keys of all algorithms that sign tokens."""

    def __init__(self, stored: SigningKeyRepository, encryption: Encryption, *, token_lifetime: timedelta) -> None:
        """`token_lifetime` is the longest that any token is valid which this process signs."""
        self.stored = stored
        self.encryption = encryption
        self.token_seconds = int(token_lifetime.total_seconds())
        self.algorithms: set[str] = set()
        """The algorithms by which tokens may be signed; when the keys are published, each has one."""
        self.observers: list[Observer] = []
        """Functions that are called with the keys whenever they were read."""
        self.unreadable: set[str] = set()
        self.lock = asyncio.Lock()
        self.forget()

    def forget(self) -> None:
        """Forget the keys, of a database that was replaced say; they are read again when they are needed."""
        self.known: dict[str, SigningKey] = {}
        self.schedule: Sequence[Scheduled] = ()
        self.loaded_at = self.asked_at = -float("inf")

    @asynccontextmanager
    async def kept_fresh(self, algorithms: Collection[str]) -> AsyncGenerator[None]:
        """Keep the keys of some algorithms in memory while the block runs, so that `signer` has them."""
        self.forget()
        if not algorithms:
            yield
            return

        async def keep() -> None:
            while True:
                await asyncio.sleep(RELOAD_SECONDS if self._is_fresh() else RETRY_SECONDS)
                await self._try_to_load(algorithms)

        await self._try_to_load(algorithms)
        async with Background("signing_keys", keep).beside():
            yield

    async def published(self) -> list[JWK]:
        """Return the public parts of all keys by which tokens are signed, will be, or were and are still valid."""
        await self.refresh(self.algorithms)
        moment = now()
        return [scheduled.key.jwk for scheduled in self.schedule if not scheduled.has_expired(moment)]

    async def signer_for(self, algorithm: str) -> SigningKey:
        """Return the key of an algorithm that signs at present; make one at first need."""
        await self.refresh([algorithm])
        return self.signer(algorithm)

    def signer(self, algorithm: str) -> SigningKey:
        """Return the key of an algorithm that signs at present, of those in memory. Raise Unavailable for none."""
        moment = now()
        keys = [scheduled for scheduled in self.schedule if scheduled.key.algorithm == algorithm]
        if not keys:
            raise Unavailable
        # The first one signs at once, also where this clock is behind that of whoever made it.
        return next((one.key for one in reversed(keys) if one.signs_from <= moment), keys[0].key)

    async def refresh(self, needed: Collection[str]) -> None:
        """Read the keys unless they were read within RELOAD_SECONDS, and make those of the algorithms that lack one."""
        if self._is_fresh() and self._has(needed):
            return
        async with self.lock:
            if not (self._is_fresh() and self._has(needed)):
                await self._load(needed)

    async def look_again(self) -> None:
        """Read the keys for a token whose key isn't known; do nothing within LOOK_AGAIN_SECONDS of the last time.

        Whoever makes up tokens can so cause one statement in that time, and not one each.
        """
        async with self.lock:
            if monotonic() - self.asked_at >= LOOK_AGAIN_SECONDS:
                await self._load(())

    async def rotate(self) -> Sequence[Scheduled]:
        """Make a new key of each algorithm whose newest one signs already. Return the keys of all, in their order."""
        async with self.lock:
            await self._load(())
            moment = now()
            for scheduled in self.schedule:
                if scheduled.signs_until is None and scheduled.signs_from <= moment:
                    await self._make(scheduled.key.algorithm, moment + PUBLISHED_AHEAD)
            await self._load(())
        return self.schedule

    async def purge(self) -> int:
        """Delete the keys whose last token has expired, and return their number."""
        async with self.lock:
            await self._load(())
        moment = now()
        expired = [scheduled.key.kid for scheduled in self.schedule if scheduled.has_expired(moment)]
        if expired:
            await self.stored.remove_all(expired)
        return len(expired)

    def _is_fresh(self) -> bool:
        return monotonic() - self.loaded_at < RELOAD_SECONDS

    def _has(self, algorithms: Iterable[str]) -> bool:
        return {scheduled.key.algorithm for scheduled in self.schedule}.issuperset(algorithms)

    async def _try_to_load(self, algorithms: Collection[str]) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS), self.lock:
                await self._load(algorithms)
        except (SQLAlchemyError, OSError) as error:
            log.warning("signing keys not read", cause=type(error).__name__)

    async def _load(self, needed: Collection[str]) -> None:
        """Read the keys, and make those of the algorithms that lack one."""
        self.asked_at = monotonic()
        await self._read()
        for _ in range(MOST_ROUNDS):
            missing = [algorithm for algorithm in sorted(needed) if not self._has([algorithm])]
            if not missing:
                break
            for algorithm in missing:
                await self._make(algorithm, now())
            await self._read()
        self.loaded_at = self.asked_at

    async def _read(self) -> None:
        rows = await self.stored.all()
        self.numbers = {row.algorithm: row.number for row in rows}
        keys = [(row, key) for row in rows if (key := await self._key(row))]
        self.known = {key.kid: key for _, key in keys}
        schedule = list(scheduled(keys))
        # It is recorded before this process signs any token that is valid for so long.
        for one in schedule:
            if one.may_sign(now()) and one.token_seconds < self.token_seconds:
                await self.stored.raise_lifetime(one.key.kid, self.token_seconds)
        self.schedule = schedule
        for observe in self.observers:
            observe(schedule)

    async def _key(self, row: KeyRow) -> SigningKey | None:
        """Return the key of a row; None for one that SECRET_KEY doesn't decrypt, which counts as no key at all."""
        if row.kid in self.known:
            return self.known[row.kid]
        context = row.kid.encode()
        try:
            der, is_outdated = self.encryption.decrypt(row.encrypted, context)
        except UndecryptableError:
            if row.kid not in self.unreadable:
                log.warning("signing key unreadable", kid=row.kid)
                self.unreadable.add(row.kid)
            return None
        if is_outdated:
            await self.stored.encrypt_again(row.kid, row.encrypted, self.encryption.encrypt(der, context))
        return SigningKey.load(row.algorithm, der)

    async def _make(self, algorithm: str, signs_from: datetime) -> None:
        key = await asyncio.to_thread(SigningKey.generate, algorithm)
        number = self.numbers.get(algorithm, 0) + 1
        encrypted = self.encryption.encrypt(key.der(), key.kid.encode())
        await self.stored.store(KeyRow(key.kid, algorithm, number, encrypted, signs_from, self.token_seconds))
        log.info("signing key made", kid=key.kid, algorithm=algorithm)


def scheduled(keys: Iterable[tuple[KeyRow, SigningKey]]) -> Iterator[Scheduled]:
    """Yield when each key signs, of keys that are in the order of their algorithms and numbers."""
    for _, group in groupby(keys, key=lambda pair: pair[0].algorithm):
        row_of_keys = list(group)
        following = [row.signs_from for row, _ in row_of_keys[1:]]
        for (row, key), until in zip(row_of_keys, [*following, None], strict=True):
            yield Scheduled(key, row.signs_from, until, row.token_seconds)
