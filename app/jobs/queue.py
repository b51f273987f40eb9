"""The queue of jobs, as those see it who ask for work to be done."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta

from app.database.models import now
from app.database.sessions import Database, Transaction, after_commit
from app.jobs.models import Job, Payload
from app.jobs.repository import JobRepository

DAILY_AT = time(3, tzinfo=UTC)


class JobQueue:
    """Takes jobs for the workers of one database."""

    def __init__(self, database: Database) -> None:
        self.jobs = JobRepository(database)
        self.database = database
        self.wake: Callable[[], None] | None = None
        """How to wake this process's worker, where it has one; others look every few seconds."""

    async def enqueue(
        self,
        transaction: Transaction,
        kind: str,
        payload: Payload,
        *,
        run_at: datetime | None = None,
        key: str | None = None,
    ) -> None:
        """Have a job done once the transaction is committed, not before `run_at`.

        Of jobs with the same `key` the first is kept, and the others are dropped without an error.
        """
        await self.jobs.enqueue(transaction, kind, payload, run_at=run_at or now(), key=key)
        if self.wake:
            after_commit(transaction, self.wake)

    async def schedule_tomorrow(self, transaction: Transaction, kind: str) -> None:
        """Have a job done tomorrow, once, however many processes say so and however often.

        Tomorrow's row stays until tomorrow, when nobody asks for it any more; with today's, whoever asks after the job
        is done would have it done again.
        """
        day = now().date() + timedelta(days=1)
        run_at = datetime.combine(day, DAILY_AT)
        await self.enqueue(transaction, kind, {}, run_at=run_at, key=f"{kind}:{day}")

    async def dead_letters(self) -> Sequence[Job]:
        """Return the jobs that were given up, oldest first."""
        return await self.jobs.dead_letters()

    async def retry(self, job_id: int | None = None) -> int:
        """Enqueue a dead letter, or all of them, again; return how many there were.

        They become new rows, so that no attempt at the old ones, late as it may end, has a say in them.
        """
        async with self.database.transaction() as transaction:
            taken = await self.jobs.take_dead_letters(transaction, job_id)
            for kind, payload in taken:
                await self.enqueue(transaction, kind, payload)
        return len(taken)
