"""The statements on jobs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database.models import now
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.jobs.models import Job, Payload


class Run(Struct, frozen=True):
    """One attempt at a job, by the worker that holds its lease."""

    id: int
    kind: str
    payload: Payload
    attempt: int


class Counts(NamedTuple):
    """How many jobs there are in each state."""

    due: int
    waiting: int
    dead: int


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
HELD = (Job.id == bindparam("job")) & (Job.attempt == bindparam("held_attempt"))
FINISH = delete(Job).where(HELD).returning(Job.id)
POSTPONE = update(Job).where(HELD).values(run_at=bindparam("at")).returning(Job.id)
POSTPONE_AFTER_ERROR = POSTPONE.values(last_error=bindparam("error"))
GIVE_UP = update(Job).where(HELD).values(failed_at=bindparam("at"), last_error=bindparam("error")).returning(Job.id)
DEAD = Job.failed_at.is_not(None)
COUNT = select(
    func.count().filter(Job.failed_at.is_(None), Job.run_at <= bindparam("at")),
    func.count().filter(Job.failed_at.is_(None), Job.run_at > bindparam("at")),
    func.count().filter(DEAD),
)


class JobRepository(Repository[Job]):
    """The rows of `jobs`. What settles an attempt returns False when its lease has ended meanwhile."""

    model_type = Job

    async def enqueue(
        self, transaction: Transaction, kind: str, payload: Payload, *, run_at: datetime, key: str | None
    ) -> None:
        """Add a job; of jobs with the same `key` the first is kept, and the others are dropped without an error."""
        values = {"kind": kind, "payload": payload, "run_at": run_at, "key": key}
        await transaction.execute(ENQUEUE[self.database.engine.dialect.name], values)

    async def claim(self, kinds: Sequence[str], lease: timedelta) -> Run | None:
        """Return the job of these kinds that has been due for longest, leased from now on; None when there is none."""
        at = now()
        values = {"at": at, "kinds": kinds, "lease_end": at + lease}
        rows = await self.database.fetch(CLAIM, values)
        return Run(*rows[0]) if rows else None

    async def finish(self, run: Run) -> bool:
        """Delete a job that is done."""
        return await self._settle(run, FINISH)

    async def release(self, run: Run) -> bool:
        """Let another worker take a job now."""
        return await self._settle(run, POSTPONE, at=now())

    async def postpone(self, run: Run, delay: timedelta, error: str) -> bool:
        """Have a job tried again after `delay`."""
        return await self._settle(run, POSTPONE_AFTER_ERROR, at=now() + delay, error=error)

    async def give_up(self, run: Run, error: str) -> bool:
        """Make a job a dead letter."""
        return await self._settle(run, GIVE_UP, at=now(), error=error)

    async def _settle(self, run: Run, statement: TypedReturnsRows[int], **values: object) -> bool:
        rows = await self.database.fetch(statement, {"job": run.id, "held_attempt": run.attempt, **values})
        return bool(rows)

    async def dead_letters(self) -> Sequence[Job]:
        """Return the jobs that were given up, oldest first."""
        async with self.database.reading() as session:
            return (await session.scalars(select(Job).where(DEAD).order_by(Job.id))).all()

    async def take_dead_letters(self, transaction: Transaction, job_id: int | None) -> Sequence[tuple[str, Payload]]:
        """Delete a dead letter, or all of them, and return their kinds and payloads."""
        chosen = DEAD if job_id is None else DEAD & (Job.id == job_id)
        rows = await transaction.execute(delete(Job).where(chosen).returning(Job.kind, Job.payload))
        return [(kind, payload) for kind, payload in rows]

    async def count_by_state(self) -> Counts:
        """Return how many jobs are due now, wait for their time, their next attempt or the end of this one, or died."""
        rows = await self.database.fetch(COUNT, {"at": now()})
        return Counts(*rows[0])
