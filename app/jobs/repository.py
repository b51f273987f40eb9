"""The statements on jobs, to enqueue, claim, settle and count them, and on the counts of mails."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database.models import now
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.jobs.models import Job, MailCount, Payload


class ClaimedJob(Struct, frozen=True):
    """A job that a worker has claimed; `attempt` is the number of this attempt, from 1."""

    id: int
    kind: str
    payload: Payload
    attempt: int


class JobCounts(NamedTuple):
    """The numbers of jobs in each state: due now, waiting, and dead letters."""

    due: int
    waiting: int
    dead: int


ENQUEUE = {
    "postgresql": postgresql.insert(Job).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(Job).on_conflict_do_nothing(),
}
REPLACE = update(Job).where(Job.key == bindparam("same_key")).values(payload=bindparam("newer")).returning(Job.id)
# A job of a kind that this worker doesn't know waits for another worker: a newer release may have enqueued it.
DUE = (
    select(Job.id)
    .where(Job.failed_at.is_(None), Job.run_at <= bindparam("at"), Job.kind.in_(bindparam("kinds", expanding=True)))
    .order_by(Job.run_at)
    .limit(1)
    .with_for_update(skip_locked=True)  # SQLite has no row locks, and needs none: one statement writes at a time.
    .scalar_subquery()
)
# A key keeps further jobs out until its job begins. Whatever happens later isn't a part of what this one does.
CLAIM = (
    update(Job)
    .where(Job.id == DUE)
    .values(run_at=bindparam("lease_end"), attempt=Job.attempt + 1, key=None)
    .returning(Job.id, Job.kind, Job.payload, Job.attempt)
)
# The fence: an attempt whose lease has ended can't change the row, since the next attempt has another number.
IS_CLAIMED = (Job.id == bindparam("job")) & (Job.attempt == bindparam("claimed_attempt"))
FINISH = delete(Job).where(IS_CLAIMED).returning(Job.id)
POSTPONE = update(Job).where(IS_CLAIMED).values(run_at=bindparam("at")).returning(Job.id)
POSTPONE_AFTER_ERROR = POSTPONE.values(last_error=bindparam("error"))
GIVE_UP = (
    update(Job).where(IS_CLAIMED).values(failed_at=bindparam("at"), last_error=bindparam("error")).returning(Job.id)
)
IS_DEAD = Job.failed_at.is_not(None)
COUNT = select(
    func.count().filter(Job.failed_at.is_(None), Job.run_at <= bindparam("at")),
    func.count().filter(Job.failed_at.is_(None), Job.run_at > bindparam("at")),
    func.count().filter(IS_DEAD),
)


class JobRepository(Repository[Job]):
    """The rows of `jobs`. Methods that settle a claimed job return False when another attempt has begun meanwhile."""

    model_type = Job

    async def enqueue(
        self, transaction: Transaction, kind: str, payload: Payload, *, run_at: datetime, key: str | None
    ) -> None:
        """Add a job; of jobs with the same `key` the first is kept, and the others are dropped without an error."""
        values = {"kind": kind, "payload": payload, "run_at": run_at, "key": key}
        await transaction.execute(ENQUEUE[self.database.engine.dialect.name], values)

    async def replace(self, transaction: Transaction, key: str, payload: Payload) -> bool:
        """Give the job that waits under a key another payload; return False when there is none."""
        return bool(await self.rows(REPLACE, {"same_key": key, "newer": payload}, transaction))

    async def claim(self, kinds: Sequence[str], lease: timedelta) -> ClaimedJob | None:
        """Claim the job that has been due for longest, of these kinds and for a lease; None when there is none."""
        at = now()
        values = {"at": at, "kinds": kinds, "lease_end": at + lease}
        rows = await self.database.fetch(CLAIM, values)
        return ClaimedJob(*rows[0]) if rows else None

    async def finish(self, job: ClaimedJob) -> bool:
        """Delete a job that is done."""
        return await self._settle(job, FINISH)

    async def release(self, job: ClaimedJob) -> bool:
        """Make a job due now, for another worker."""
        return await self._settle(job, POSTPONE, at=now())

    async def postpone(self, job: ClaimedJob, delay: timedelta, error: str) -> bool:
        """Make a job due again after `delay`."""
        return await self._settle(job, POSTPONE_AFTER_ERROR, at=now() + delay, error=error)

    async def give_up(self, job: ClaimedJob, error: str) -> bool:
        """Make a job a dead letter."""
        return await self._settle(job, GIVE_UP, at=now(), error=error)

    async def _settle(self, job: ClaimedJob, statement: TypedReturnsRows[int], **values: object) -> bool:
        rows = await self.database.fetch(statement, {"job": job.id, "claimed_attempt": job.attempt, **values})
        return bool(rows)

    async def dead_letters(self) -> Sequence[Job]:
        """Return the jobs that were given up, oldest first."""
        async with self.database.reading() as session:
            return (await session.scalars(select(Job).where(IS_DEAD).order_by(Job.id))).all()

    async def take_dead_letters(self, transaction: Transaction, job_id: int | None) -> Sequence[tuple[str, Payload]]:
        """Delete one dead letter, or with None all of them, and return their kinds and payloads."""
        chosen = IS_DEAD if job_id is None else IS_DEAD & (Job.id == job_id)
        rows = await transaction.execute(delete(Job).where(chosen).returning(Job.kind, Job.payload))
        return [(kind, payload) for kind, payload in rows]

    async def count_by_state(self) -> JobCounts:
        """Return the numbers of jobs in each state; those that wait include those at work, whose lease hasn't ended."""
        rows = await self.database.fetch(COUNT, {"at": now()})
        return JobCounts(*rows[0])


def lock_statement(insert: postgresql.Insert | sqlite.Insert) -> ReturningInsert[list[float]]:
    """Return the statement that locks a count until the transaction ends, and returns its times, none at first."""
    locked = insert.on_conflict_do_update(index_elements=["name"], set_={"expires_at": MailCount.expires_at})
    return locked.returning(MailCount.times)


LOCK = {
    "postgresql": lock_statement(postgresql.insert(MailCount)),
    "sqlite": lock_statement(sqlite.insert(MailCount)),
}


class MailCountRepository(Repository[MailCount]):
    """The rows of `mail_counts`."""

    model_type = MailCount

    async def lock(self, transaction: Transaction, name: bytes) -> list[float]:
        """Lock a count until the transaction ends, and return its times; a new one has none."""
        values = {"name": name, "times": [], "expires_at": now()}
        times: list[float] = (await transaction.execute(LOCK[self.database.engine.dialect.name], values)).scalar_one()
        return times

    async def store(self, transaction: Transaction, name: bytes, times: Sequence[float], lifetime: timedelta) -> None:
        """Store the times of a count that is locked; it can be forgotten a `lifetime` after the last one."""
        expires_at = datetime.fromtimestamp(times[-1], UTC) + lifetime
        stored = update(MailCount).where(MailCount.name == name).values(times=list(times), expires_at=expires_at)
        await transaction.execute(stored)

    async def purge(self) -> int:
        """Delete the counts of mailboxes that got no mail of late, and return their number."""
        return await delete_in_batches(self.database, MailCount, MailCount.expires_at <= now())
