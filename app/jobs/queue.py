"""The queue of jobs: it enqueues jobs, and lists and retries those that were given up."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta

from app.database.models import now
from app.database.sessions import Database, Transaction, after_commit
from app.jobs.models import Job, Payload
from app.jobs.repository import JobRepository

DAILY_AT = time(3, tzinfo=UTC)


class JobQueue:
    """The queue of one database's jobs."""

    def __init__(self, database: Database) -> None:
        self.jobs = JobRepository(database)
        self.database = database
        self.wake: Callable[[], None] | None = None
        """Wakes this process's worker, where it has one; other workers poll the queue every few seconds."""

    async def enqueue(
        self,
        transaction: Transaction,
        kind: str,
        payload: Payload,
        *,
        run_at: datetime | None = None,
        key: str | None = None,
    ) -> None:
        """Enqueue a job, to be done when the transaction has committed, and not before `run_at`.

        Of jobs with the same `key` the first is kept until it begins, and the others are dropped without an error.
        """
        await self.jobs.enqueue(transaction, kind, payload, run_at=run_at or now(), key=key)
        if self.wake:
            after_commit(transaction, self.wake)

    async def schedule_tomorrow(self, transaction: Transaction, kind: str) -> None:
        """Enqueue a job for tomorrow at DAILY_AT, once, however often and in however many processes this is called.

        Tomorrow's row is there until tomorrow, and so keeps further ones out. A job for today would be enqueued again
        by the first call after it is done.
        """
        day = now().date() + timedelta(days=1)
        run_at = datetime.combine(day, DAILY_AT)
        await self.enqueue(transaction, kind, {}, run_at=run_at, key=f"{kind}:{day}")

    async def dead_letters(self) -> Sequence[Job]:
        """Return the jobs that were given up, oldest first."""
        return await self.jobs.dead_letters()

    async def retry(self, job_id: int | None = None) -> int:
        """Enqueue one dead letter again, or all of them, and return their number.

        They become new rows, so that no attempt at an old row, however late it ends, can change them.
        """
        async with self.database.transaction() as transaction:
            taken = await self.jobs.take_dead_letters(transaction, job_id)
            for kind, payload in taken:
                await self.enqueue(transaction, kind, payload)
        return len(taken)
