"""Reads on hot standbys of PostgreSQL, so that no client misses a write of its own, however far a standby lags behind.

A standby is complete until a moment when it has replayed all that the primary had written by then. It serves reads
while it is complete until `lag_seconds` ago. A session that wrote within the last `lag_seconds` + MARGIN_SECONDS reads
from the primary.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from typing import TypeVar, TypeVarTuple

import structlog
from sqlalchemy import BigInteger, Row, event, literal_column, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database.background import Background
from app.database.driver import Rows, Statement
from app.database.models import now
from app.database.sessions import Database, Reading

# One second for `wrote_at`, which may be that much older than the last write, and one for clocks that differ.
MARGIN_SECONDS = 2
MEASURE_EVERY_SECONDS = 0.5
ANSWER_WITHIN_SECONDS = 1
# Positions in the write-ahead log, in bytes. A server that is no standby, or no longer one, has replayed nothing.
WRITTEN = select(literal_column("(pg_current_wal_lsn() - '0/0')::bigint", BigInteger))
REPLAYED = select(
    literal_column(
        "CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint ELSE -1 END", BigInteger
    )
)
FAILURES = (SQLAlchemyError, OSError)
STATEMENT_TIMEOUT = "57014"
SHUTDOWN_OR_STARTUP = "57P"

Columns = TypeVarTuple("Columns")
Result = TypeVar("Result")
Progress = Sequence[tuple[float, int]]
"""Moments, in seconds of the monotonic clock, and the position up to which the primary had written by each."""

log = structlog.stdlib.get_logger("replicas")


class Standby(Database):
    """A hot standby; a read that it fails is repeated on the primary, so that no client notices."""

    def __init__(self, url: str, primary: Database, *, pool_size: int) -> None:
        """Open at most `pool_size` connections, besides those to the primary."""
        super().__init__(url, pool_size=pool_size)
        self.primary = primary
        # Without what else its parameters may hold, a password say.
        hosts = {name: value for name, value in self.engine.url.query.items() if name in {"host", "port"}}
        self.name = self.engine.url.set(query=hosts).render_as_string(hide_password=True)
        self.complete_until = -float("inf")
        """The moment until which the standby is known to be complete, in seconds of the monotonic clock."""
        self.exclusions = 0
        event.listen(self.engine.sync_engine, "checkout", self.exclude_if_closed, insert=True)

    async def fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        """Return the rows of one statement, as they were at most some seconds ago."""
        return await self.read_or_repeat(
            super().fetch(statement, parameters), lambda: self.primary.fetch(statement, parameters)
        )

    async def fetch_prepared(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        """Return what `fetch` does, faster, for a statement that is built once."""
        return await self.read_or_repeat(
            super().fetch_prepared(statement, parameters), lambda: self.primary.fetch_prepared(statement, parameters)
        )

    async def in_session(self, read: Callable[[Reading], Awaitable[Result]]) -> Result:
        """Return the result of a function that reads more than once; call it again on the primary when a read fails."""
        return await self.read_or_repeat(super().in_session(read), lambda: self.primary.in_session(read))

    async def read_or_repeat(self, read: Awaitable[Result], again: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of `read`, or that of `again` when `read` fails.

        A statement that takes too long isn't repeated, since it would also take too long on the primary.
        """
        exclusions = self.exclusions
        try:
            result = await read
        except FAILURES as error:
            if sqlstate(error) == STATEMENT_TIMEOUT:
                raise
            log.warning("read repeated on the primary", replica=self.name, cause=type(error).__name__)
            if is_gone(error):
                self.exclude()
        else:
            if exclusions == self.exclusions:
                return result
        return await again()

    def exclude_if_closed(self, connection: DBAPIConnection, *_: object) -> None:
        """Exclude a standby that has restarted: it answers before it has replayed again what it had replayed before."""
        if connection.driver_connection.is_closed():
            self.exclude()

    def exclude(self) -> None:
        """Take the standby out of use until the next measurement finds it complete."""
        self.exclusions += 1
        self.complete_until = -float("inf")

    async def measure(self, progress: Progress) -> None:
        """Measure until when the standby is complete; one that doesn't answer keeps the last measurement."""
        exclusions = self.exclusions
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                ((replayed,),) = await super().fetch(REPLAYED, {})
        except FAILURES as error:
            if is_gone(error):
                self.exclude()
            return
        if exclusions == self.exclusions:
            moments = [moment for moment, written in progress if written <= replayed]
            self.complete_until = max(moments, default=-float("inf"))


def sqlstate(error: Exception) -> str | None:
    """Return the SQLSTATE of one of PostgreSQL's own errors; None for another error."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def is_gone(error: Exception) -> bool:
    """Return whether an error means that the server is gone, and not just slow."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (sqlstate(error) or "").startswith(SHUTDOWN_OR_STARTUP)
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)


class Replicas:
    """The standbys of one primary, of which those serve reads that are complete enough."""

    def __init__(self, primary: Database, standbys: Sequence[Standby], *, primary_seconds: int) -> None:
        """Have a session read from the primary for `primary_seconds`, at least 4, after it has written."""
        self.primary = primary
        self.standbys = standbys
        self.after_write = timedelta(seconds=primary_seconds)
        self.lag_seconds = primary_seconds - MARGIN_SECONDS
        self.progress: deque[tuple[float, int]] = deque(maxlen=int(self.lag_seconds / MEASURE_EVERY_SECONDS) + 1)
        self.ready: set[Standby] = set()
        self.observers: list[Callable[[], None]] = [self.log_changes]

    def choose(self, affinity: int, wrote_at: datetime | None) -> Database:
        """Return the database from which a session reads; `wrote_at` is the time of its last write.

        One session, by its `affinity`, keeps to one standby, so that others' writes, once seen, don't vanish.
        """
        if wrote_at is None or now() - wrote_at >= self.after_write:
            ready = [standby for standby in self.standbys if self.is_ready(standby)]
            if ready:
                return ready[affinity % len(ready)]
        return self.primary

    def is_ready(self, standby: Standby) -> bool:
        """Return whether a standby is complete enough at this moment."""
        return standby.complete_until > time.monotonic() - self.lag_seconds

    async def measure(self) -> None:
        """Measure how far the primary has written, and how far each standby has replayed."""
        moment = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                ((written,),) = await self.primary.fetch(WRITTEN, {})
        except FAILURES:
            return
        self.progress.append((moment, written))
        await asyncio.gather(*(standby.measure(self.progress) for standby in self.standbys))

    def log_changes(self) -> None:
        """Log the standbys that went out of use, and those that are in use again, since the last call."""
        ready = {standby for standby in self.standbys if self.is_ready(standby)}
        for standby in ready - self.ready:
            log.info("replica taken in", replica=standby.name)
        for standby in self.ready - ready:
            log.warning("replica left out", replica=standby.name)
        self.ready = ready

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Measure the standbys while the block runs, and close their connections at its end."""
        try:
            async with Background("replica_watch", self._watch).beside() if self.standbys else nullcontext():
                yield
        finally:
            for standby in self.standbys:
                await standby.close()

    async def _watch(self) -> None:
        while True:
            await self.measure()
            for observe in self.observers:
                observe()
            await asyncio.sleep(MEASURE_EVERY_SECONDS)
