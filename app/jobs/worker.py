"""The worker, which claims jobs as they become due, and runs their handlers."""

import asyncio
import logging
import random
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.database.background import Background
from app.database.models import now
from app.jobs.models import Payload
from app.jobs.queue import JobQueue
from app.jobs.repository import ClaimedJob

JobHandler = Callable[[Payload], Awaitable[None]]

STOP_SECONDS = 5
FIRST_DELAY_SECONDS = 10
LONGEST_DELAY_SECONDS = 3600

WORKER_KILLED = "WorkerKilled"

log = structlog.stdlib.get_logger("jobs")


class Outcome(NamedTuple):
    """The outcome of an attempt: the log's event and its level."""

    event: str
    level: int


DONE = Outcome("job_done", logging.INFO)
RELEASED = Outcome("job_released", logging.INFO)
FAILED = Outcome("job_failed", logging.WARNING)
DEAD = Outcome("job_dead", logging.ERROR)


def backoff(attempt: int) -> timedelta:
    """Return the wait after a failed attempt: 10 s to an hour, twice as long each time, plus or minus a quarter."""
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1), LONGEST_DELAY_SECONDS)
    return timedelta(seconds=delay * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load; guessing it gains nothing


class Worker:
    """A worker for the jobs of one database, with one handler for each kind. Any number of workers share the jobs."""

    def __init__(
        self,
        queue: JobQueue,
        handlers: Mapping[str, JobHandler],
        *,
        daily: Sequence[str] = (),
        concurrency: int = 4,
        max_attempts: int = 12,
        lease: timedelta = timedelta(seconds=60),
        poll_seconds: float = 2,
    ) -> None:
        """Run up to `concurrency` jobs at once; those of the kinds `daily` are enqueued once a day.

        A handler is cancelled after half the `lease`. A job is given up after `max_attempts`, by default some three
        hours after the first. Jobs that other processes enqueue, and those that become due, are found within
        `poll_seconds`.
        """
        self.queue = queue
        self.jobs = queue.jobs
        self.handlers = handlers
        self.daily = daily
        self.slots = asyncio.Semaphore(concurrency)
        self.max_attempts = max_attempts
        self.lease = lease
        self.poll_seconds = poll_seconds
        self.woken = asyncio.Event()
        self.stopping = False
        self.scheduled_on: date | None = None
        self.background = Background("worker", self.run)
        queue.wake = self.wake

    def wake(self) -> None:
        """Have the worker poll the queue now."""
        self.woken.set()

    def in_background(self) -> AbstractAsyncContextManager[None]:
        """Run beside the block, again when a bug has ended it; at the block's end, stop as `run` does."""
        return self.background.beside()

    async def run(self) -> None:
        """Run jobs as they become due, until this is cancelled.

        Jobs at work then have STOP_SECONDS to end. Those that take longer are cancelled, and due for others at once.
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
        """Run every job that is due, one after the other, and return their number."""
        await self._schedule()
        count = 0
        while (job := await self._claim()) is not None:
            await self.run_job(job)
            count += 1
        return count

    async def _claim(self) -> ClaimedJob | None:
        return await self.jobs.claim(list(self.handlers), self.lease)

    async def run_job(self, job: ClaimedJob) -> None:
        """Run the handler of a claimed job, and settle the job."""
        if job.attempt > self.max_attempts:
            # The worker was killed at the last attempt, perhaps by this job, which must not kill another worker.
            await self._settle(job, self.jobs.give_up(job, WORKER_KILLED), DEAD, error=WORKER_KILLED)
            return
        try:
            # Half the lease, so that the handler has certainly ended before another worker can claim the job.
            async with asyncio.timeout(self.lease.total_seconds() / 2):
                await self.handlers[job.kind](job.payload)
        except asyncio.CancelledError:
            await self._settle(job, self.jobs.release(job), RELEASED)
            raise
        except Exception as error:  # noqa: BLE001 - the job is tried again after any error
            await self._fail(job, error)
        else:
            await self._settle(job, self.jobs.finish(job), DONE)

    async def _fail(self, job: ClaimedJob, error: Exception) -> None:
        # The error's text gets neither into the table nor into the log, since it may have an address or a secret.
        name = type(error).__name__[:100]
        if job.attempt < self.max_attempts:
            settlement, outcome = self.jobs.postpone(job, backoff(job.attempt), name), FAILED
        else:
            settlement, outcome = self.jobs.give_up(job, name), DEAD
        await self._settle(job, settlement, outcome, error=name, where=raised_at(error))

    async def _settle(self, job: ClaimedJob, settlement: Awaitable[bool], outcome: Outcome, **fields: str) -> None:
        """Await the statement that settles a job, and log the outcome."""
        logger = log.bind(job_id=job.id, kind=job.kind, attempt=job.attempt)
        try:
            settled = await settlement
        except (SQLAlchemyError, OSError) as error:
            # The job will be done again after the lease, which "at least once" allows.
            logger.warning("job_unsettled", error=type(error).__name__)
        else:
            logger.log(outcome.level, outcome.event if settled else "job_overrun", **fields)

    async def _loop(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not self.stopping:
                self.woken.clear()
                try:
                    await self._schedule()
                    await self._start_due(tasks)
                except (SQLAlchemyError, OSError) as error:
                    log.warning("jobs_wait_for_database", error=type(error).__name__)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.poll_seconds):
                        await self.woken.wait()

    async def _start_due(self, tasks: asyncio.TaskGroup) -> None:
        """Start every job that is due, each as soon as fewer than `concurrency` are at work."""
        while True:
            await self.slots.acquire()
            job = None
            try:
                job = None if self.stopping else await self._claim()
            finally:
                if job is None:
                    self.slots.release()
            if job is None:
                return
            tasks.create_task(self.run_job(job)).add_done_callback(lambda _: self.slots.release())

    async def _schedule(self) -> None:
        """Enqueue tomorrow's daily jobs, once a day."""
        today = now().date()
        if self.daily and self.scheduled_on != today:
            async with self.queue.database.transaction() as transaction:
                for kind in self.daily:
                    await self.queue.schedule_tomorrow(transaction, kind)
            self.scheduled_on = today


def raised_at(error: Exception) -> str:
    """Return the file and line that raised an error."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
