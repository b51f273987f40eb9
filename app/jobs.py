"""Background jobs: what is done after the request that asked for it, by a worker in this process or another.

A job is a row, written in the transaction that causes it: rolled back, it was never asked for; committed, it is done
at least once. A worker claims it for a lease, without holding a connection meanwhile; when the worker dies, another
claims the job after the lease.
"""

import asyncio
import logging
import random
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog
from msgspec import Struct
from sqlalchemy import JSON, Index, String, bindparam, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.db import Base, Database, PrimaryKey, after_commit, now

Payload = dict[str, str | int]
Handler = Callable[[Payload], Awaitable[None]]

DAILY_AT = time(3, tzinfo=UTC)
STOP_SECONDS = 5
FIRST_DELAY_SECONDS = 10
LONGEST_DELAY_SECONDS = 3600
# The execution option of an engine that holds how to wake the worker of its database in this process.
WAKE = "wake_worker"
ALIVE = text("failed_at IS NULL")

log = structlog.stdlib.get_logger("jobs")


class Job(Base):
    """Something to be done; its row is gone when it is."""

    __tablename__ = "jobs"
    # What may be claimed, oldest first; dead letters would only be in the way.
    __table_args__ = (Index(None, "run_at", postgresql_where=ALIVE, sqlite_where=ALIVE), Base.__table_args__)

    id: Mapped[PrimaryKey]
    kind: Mapped[str] = mapped_column(String(64))
    # Ids and addresses, never a token or a password: whoever reads the table must not gain a right by it.
    payload: Mapped[Payload] = mapped_column(JSON)
    # When it is due; while it is at work, when its lease ends and it is due again.
    run_at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(default=0)
    key: Mapped[str | None] = mapped_column(String(200), unique=True)
    # Set when the last attempt has failed: a dead letter, which waits for an operator.
    failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Run(Struct, frozen=True):
    """One attempt at a job, by the worker that holds its lease."""

    id: int
    kind: str
    payload: Payload
    attempt: int


ENQUEUE = {
    "postgresql": postgresql.insert(Job).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(Job).on_conflict_do_nothing(),
}
# A kind that this worker doesn't know waits for one that does: a newer release enqueues it already.
DUE = (
    select(Job.id)
    .where(Job.failed_at.is_(None), Job.run_at <= bindparam("at"), Job.kind.in_(bindparam("kinds", expanding=True)))
    .order_by(Job.run_at)
    .limit(1)
    .with_for_update(skip_locked=True)  # SQLite knows no row locks, and needs none: one statement writes at a time.
    .scalar_subquery()
)
CLAIM = (
    update(Job)
    .where(Job.id == DUE)
    .values(run_at=bindparam("lease_end"), attempt=Job.attempt + 1)
    .returning(Job.id, Job.kind, Job.payload, Job.attempt)
)
# The fence: an attempt whose lease ran out has no say in what becomes of the next one.
OURS = (Job.id == bindparam("job")) & (Job.attempt == bindparam("our_attempt"))


class Outcome(NamedTuple):
    """What becomes of an attempt: in the log, and in the table."""

    event: str
    level: int
    statement: TypedReturnsRows[int]


DONE = Outcome("job_done", logging.INFO, delete(Job).where(OURS).returning(Job.id))
POSTPONE = update(Job).where(OURS).returning(Job.id).values(run_at=bindparam("at"))
RELEASED = Outcome("job_released", logging.INFO, POSTPONE)
FAILED = Outcome("job_failed", logging.WARNING, POSTPONE.values(last_error=bindparam("error")))
BURY = update(Job).where(OURS).returning(Job.id).values(failed_at=bindparam("at"), last_error=bindparam("error"))
DEAD = Outcome("job_dead", logging.ERROR, BURY)

DEAD_LETTER = Job.failed_at.is_not(None)


async def enqueue(
    session: AsyncSession, kind: str, payload: Payload, *, run_at: datetime | None = None, key: str | None = None
) -> None:
    """Have a job done once the session's transaction is committed, not before `run_at`.

    Of jobs with the same `key` the first is kept, and the others are dropped without an error.
    """
    values = {"kind": kind, "payload": payload, "run_at": run_at or now(), "key": key}
    bind = session.get_bind()
    await session.execute(ENQUEUE[bind.dialect.name], values)
    if wake := bind.get_execution_options().get(WAKE):
        after_commit(session, wake)


async def schedule_daily(session: AsyncSession, kind: str) -> None:
    """Have a job done tomorrow, once, however many processes say so and however often.

    Tomorrow's row stays until tomorrow, when nobody asks for it any more; with today's, whoever asks after the job is
    done would have it done again.
    """
    day = now().date() + timedelta(days=1)
    await enqueue(session, kind, {}, run_at=datetime.combine(day, DAILY_AT), key=f"{kind}:{day}")


async def dead_letters(session: AsyncSession) -> Sequence[Job]:
    """The jobs that were given up, oldest first."""
    return (await session.scalars(select(Job).where(DEAD_LETTER).order_by(Job.id))).all()


async def retry(session: AsyncSession, job_id: int | None = None) -> int:
    """Enqueue a dead letter, or all of them, again; returns how many there were.

    They become new rows, so that no attempt at the old ones, late as it may end, has a say in them.
    """
    chosen = DEAD_LETTER if job_id is None else DEAD_LETTER & (Job.id == job_id)
    rows = (await session.execute(delete(Job).where(chosen).returning(Job.kind, Job.payload))).all()
    for kind, payload in rows:
        await enqueue(session, kind, payload)
    return len(rows)


def backoff(attempt: int) -> timedelta:
    """How long to wait after a failed attempt: twice as long each time, give or take a quarter."""
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1), LONGEST_DELAY_SECONDS)
    return timedelta(seconds=delay * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load; guessing it gains nothing


class Worker:
    """Runs the jobs of one database, by one handler for each kind; any number of workers share the work."""

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, Handler],
        *,
        daily: Sequence[str] = (),
        concurrency: int = 4,
        attempts: int = 12,
        lease: timedelta = timedelta(seconds=60),
        poll_seconds: float = 2,
    ) -> None:
        """`daily` are the kinds to be done once a day; a handler may take half the `lease`.

        A job is given up after `attempts`, some three hours with the default. Jobs of other processes, and those that
        wait for their time, are seen within `poll_seconds`.
        """
        self.database = database
        self.handlers = handlers
        self.daily = daily
        self.free = asyncio.Semaphore(concurrency)
        self.attempts = attempts
        self.lease = lease
        self.poll_seconds = poll_seconds
        self.woken = asyncio.Event()
        self.stopping = False
        self.scheduled: date | None = None
        database.transactional.sync_engine.update_execution_options(**{WAKE: self.wake})

    def wake(self) -> None:
        """Look for jobs now."""
        self.woken.set()

    @asynccontextmanager
    async def in_background(self) -> AsyncGenerator[None]:
        """Run beside the block; at its end, stop as `run` does."""
        task = asyncio.create_task(self.run())
        task.add_done_callback(report)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> None:
        """Run jobs as they become due, until cancelled.

        What is at work then has STOP_SECONDS to end; what hasn't by then is cancelled, and free for others at once.
        """
        self.stopping = False
        loop = asyncio.create_task(self._loop())
        try:
            await asyncio.shield(loop)
        finally:
            self.stopping = True
            self.wake()
            await asyncio.wait([loop], timeout=STOP_SECONDS)
            loop.cancel()
            await asyncio.wait([loop])

    async def run_due(self) -> int:
        """Run every job that is due, one after the other, and return how many that were."""
        await self._schedule()
        count = 0
        while (run := await self.claim()) is not None:
            await self.attempt(run)
            count += 1
        return count

    async def claim(self) -> Run | None:
        """The job that has been due for longest, leased to this worker; None when there is none."""
        at = now()
        kinds = list(self.handlers)
        rows = await self.database.fetch(CLAIM, {"at": at, "kinds": kinds, "lease_end": at + self.lease})
        return Run(*rows[0]) if rows else None

    async def attempt(self, run: Run) -> None:
        """Run a job's handler, and write down what becomes of the job."""
        if run.attempt > self.attempts:
            # Its workers were killed, the last of them at the last attempt; it must not kill the next one too.
            await self._settle(run, DEAD, {"at": now(), "error": "WorkerKilled"}, error="WorkerKilled")
            return
        try:
            # Half the lease, so that it has ended for certain before anybody else may begin.
            async with asyncio.timeout(self.lease.total_seconds() / 2):
                await self.handlers[run.kind](run.payload)
        except asyncio.CancelledError:
            await self._settle(run, RELEASED, {"at": now()})
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the job is tried again
            await self._fail(run, error)
        else:
            await self._settle(run, DONE, {})

    async def _fail(self, run: Run, error: Exception) -> None:
        # What it says stays out of the table and the log: there may be an address in it, or a secret.
        name = type(error).__name__[:100]
        outcome, at = (FAILED, now() + backoff(run.attempt)) if run.attempt < self.attempts else (DEAD, now())
        await self._settle(run, outcome, {"at": at, "error": name}, error=name, where=origin(error))

    async def _settle(self, run: Run, outcome: Outcome, values: Mapping[str, object], **facts: str) -> None:
        """Write down what became of an attempt, unless its lease ran out and the job is another worker's by now."""
        logger = log.bind(job_id=run.id, kind=run.kind, attempt=run.attempt)
        try:
            rows = await self.database.fetch(outcome.statement, {"job": run.id, "our_attempt": run.attempt, **values})
        except (SQLAlchemyError, OSError) as error:
            # The lease ends, and the job is done again: at least once is what was promised.
            logger.warning("job_unsettled", error=type(error).__name__)
        else:
            logger.log(outcome.level, outcome.event if rows else "job_overrun", **facts)

    async def _loop(self) -> None:
        async with asyncio.TaskGroup() as hands:
            while not self.stopping:
                self.woken.clear()
                try:
                    await self._schedule()
                    await self._start_due(hands)
                except (SQLAlchemyError, OSError) as error:
                    log.warning("jobs_wait_for_database", error=type(error).__name__)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.poll_seconds):
                        await self.woken.wait()

    async def _start_due(self, hands: asyncio.TaskGroup) -> None:
        """Start every job that is due, each as soon as a hand is free."""
        while True:
            await self.free.acquire()
            run = None
            try:
                run = None if self.stopping else await self.claim()
            finally:
                if run is None:
                    self.free.release()
            if run is None:
                return
            hands.create_task(self.attempt(run)).add_done_callback(lambda _: self.free.release())

    async def _schedule(self) -> None:
        """Enqueue tomorrow's daily jobs, unless this worker has done so today."""
        today = now().date()
        if self.daily and self.scheduled != today:
            async with self.database.transaction() as session:
                for kind in self.daily:
                    await schedule_daily(session, kind)
            self.scheduled = today


def origin(error: Exception) -> str:
    """The file and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def report(task: asyncio.Task[None]) -> None:
    """Log a worker's death by a bug, which would go unseen until the process ends."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("worker_died", exc_info=error)
