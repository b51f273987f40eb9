"""Reads on hot standbys of PostgreSQL, which may lag behind the primary, but never so far that a client could see it.

A standby is complete up to a moment when it has replayed what the primary had written by then. One that is complete up
to LAG seconds ago is asked; whoever has written within MARGIN seconds more asks the primary.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TypeVar, TypeVarTuple

import structlog
from sqlalchemy import BigInteger, Row, event, literal_column, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database.driver import Rows, Statement
from app.database.models import now
from app.database.sessions import Database, Reading

# A second for marks, which are that much older than the last write at most, and one for clocks that differ.
MARGIN_SECONDS = 2
MEASURE_EVERY_SECONDS = 0.5
ANSWER_WITHIN_SECONDS = 1
# Bytes of the write-ahead log. Whoever is no standby, or none any more, has replayed nothing.
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
"""How far the primary had written at which moments, by the monotonic clock in seconds."""

log = structlog.stdlib.get_logger("replicas")


class Standby(Database):
    """A hot standby; what it fails to read is read from the primary, and nobody notices."""

    def __init__(self, url: str, primary: Database, *, pool_size: int) -> None:
        """`pool_size` is as Database has it, beside the primary's pool."""
        super().__init__(url, pool_size=pool_size)
        self.primary = primary
        self.name = self.engine.url.render_as_string(hide_password=True)
        self.complete_until = -float("inf")
        self.losses = 0
        event.listen(self.engine.sync_engine, "checkout", self.note_dead, insert=True)

    async def fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        """Return the rows of one statement, as of the last seconds."""
        return await self.read_here(
            super().fetch(statement, parameters), lambda: self.primary.fetch(statement, parameters)
        )

    async def fetch_prepared(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        """Return the same, faster."""
        return await self.read_here(
            super().fetch_prepared(statement, parameters), lambda: self.primary.fetch_prepared(statement, parameters)
        )

    async def in_session(self, read: Callable[[Reading], Awaitable[Result]]) -> Result:
        """Read more than once; repeat all of it on the primary when one read fails."""
        return await self.read_here(super().in_session(read), lambda: self.primary.in_session(read))

    async def read_here(self, read: Awaitable[Result], again: Callable[[], Awaitable[Result]]) -> Result:
        """Return what was read, or what is read again elsewhere.

        A statement that takes too long would do so on the primary, too.
        """
        losses = self.losses
        try:
            result = await read
        except FAILURES as error:
            if sqlstate(error) == STATEMENT_TIMEOUT:
                raise
            log.warning("read repeated on the primary", replica=self.name, cause=type(error).__name__)
            if is_loss(error):
                self.leave()
        else:
            if losses == self.losses:
                return result
        return await again()

    def note_dead(self, connection: DBAPIConnection, *_: object) -> None:
        """Leave when the server has restarted: it answers before it has replayed all that it had before."""
        if connection.driver_connection.is_closed():
            self.leave()

    def leave(self) -> None:
        """Be asked nothing until the next measurement finds it complete."""
        self.losses += 1
        self.complete_until = -float("inf")

    async def measure(self, progress: Progress) -> None:
        """Find out how far it has replayed; one that doesn't answer is only ever as complete as it was."""
        losses = self.losses
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                ((replayed,),) = await super().fetch(REPLAYED, {})
        except FAILURES as error:
            if is_loss(error):
                self.leave()
            return
        if losses == self.losses:
            moments = [moment for moment, written in progress if written <= replayed]
            self.complete_until = max(moments, default=-float("inf"))


def sqlstate(error: Exception) -> str | None:
    """Return PostgreSQL's code for an error, when it is one of its own."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def is_loss(error: Exception) -> bool:
    """Return whether the server is gone, and not just slow."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (sqlstate(error) or "").startswith(SHUTDOWN_OR_STARTUP)
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)


class Replicas:
    """The standbys of one primary, of which those are asked that have replayed enough."""

    def __init__(self, primary: Database, standbys: Sequence[Standby], *, primary_seconds: int) -> None:
        """A session reads from the primary for `primary_seconds` after it has written."""
        self.primary = primary
        self.standbys = standbys
        self.after_write = timedelta(seconds=primary_seconds)
        self.lag_seconds = primary_seconds - MARGIN_SECONDS
        self.progress: deque[tuple[float, int]] = deque(maxlen=int(self.lag_seconds / MEASURE_EVERY_SECONDS) + 1)
        self.ready: set[Standby] = set()
        self.observers: list[Callable[[], None]] = [self.log_changes]

    def choose(self, session_id: int, wrote_at: datetime | None) -> Database:
        """Return the database that a session reads from; `wrote_at` is when it last wrote.

        One session keeps to one standby, so that what it has once seen of other sessions' writes doesn't vanish.
        """
        if wrote_at is None or now() - wrote_at >= self.after_write:
            ready = [standby for standby in self.standbys if self.is_ready(standby)]
            if ready:
                return ready[session_id % len(ready)]
        return self.primary

    def is_ready(self, standby: Standby) -> bool:
        """Return whether the standby is as complete as it has to be, at this moment."""
        return standby.complete_until > time.monotonic() - self.lag_seconds

    async def measure(self) -> None:
        """Find out how far the primary has written, and each standby replayed."""
        moment = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                ((written,),) = await self.primary.fetch(WRITTEN, {})
        except FAILURES:
            return
        self.progress.append((moment, written))
        await asyncio.gather(*(standby.measure(self.progress) for standby in self.standbys))

    def log_changes(self) -> None:
        """Log which standbys have left, and which are back."""
        ready = {standby for standby in self.standbys if self.is_ready(standby)}
        for standby in ready - self.ready:
            log.info("replica taken in", replica=standby.name)
        for standby in self.ready - ready:
            log.warning("replica left out", replica=standby.name)
        self.ready = ready

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Measure them beside the block, and close them at its end."""
        task = asyncio.create_task(self._watch()) if self.standbys else None
        try:
            yield
        finally:
            if task:
                task.cancel()
                await asyncio.wait([task])
            for standby in self.standbys:
                await standby.close()

    async def _watch(self) -> None:
        while True:
            await self.measure()
            for observe in self.observers:
                observe()
            await asyncio.sleep(MEASURE_EVERY_SECONDS)
