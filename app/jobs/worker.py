"""The worker, which runs jobs as they become due."""

import asyncio
import logging
import random
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.database.models import now
from app.jobs.models import Payload
from app.jobs.queue import JobQueue
from app.jobs.repository import Run

Handler = Callable[[Payload], Awaitable[None]]

STOP_SECONDS = 5
FIRST_DELAY_SECONDS = 10
LONGEST_DELAY_SECONDS = 3600

WORKER_KILLED = "WorkerKilled"

log = structlog.stdlib.get_logger("jobs")


class Outcome(NamedTuple):
    """How an attempt ended, as the log has it."""

    event: str
    level: int


DONE = Outcome("job_done", logging.INFO)
RELEASED = Outcome("job_released", logging.INFO)
FAILED = Outcome("job_failed", logging.WARNING)
DEAD = Outcome("job_dead", logging.ERROR)


def backoff(attempt: int) -> timedelta:
    """Return how long to wait after a failed attempt: twice as long each time, give or take a quarter."""
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1), LONGEST_DELAY_SECONDS)
    return timedelta(seconds=delay * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load; guessing it gains nothing


class Worker:
    """Runs the jobs of one database, by one handler for each kind; any number of workers share the work."""

    def __init__(
        self,
        queue: JobQueue,
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
        self.queue = queue
        self.jobs = queue.jobs
        self.handlers = handlers
        self.daily = daily
        self.free = asyncio.Semaphore(concurrency)
        self.attempts = attempts
        self.lease = lease
        self.poll_seconds = poll_seconds
        self.woken = asyncio.Event()
        self.stopping = False
        self.scheduled: date | None = None
        queue.wake = self.wake

    def wake(self) -> None:
        """Look for jobs now."""
        self.woken.set()

    @asynccontextmanager
    async def in_background(self) -> AsyncGenerator[None]:
        """Run beside the block; at its end, stop as `run` does."""
        task = asyncio.create_task(self.run())
        task.add_done_callback(log_death)
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
        while (run := await self._claim()) is not None:
            await self.attempt(run)
            count += 1
        return count

    async def _claim(self) -> Run | None:
        return await self.jobs.claim(list(self.handlers), self.lease)

    async def attempt(self, run: Run) -> None:
        """Run a job's handler, and write down what becomes of the job."""
        if run.attempt > self.attempts:
            # Its workers were killed, the last of them at the last attempt; it must not kill the next one too.
            await self._settle(run, self.jobs.give_up(run, WORKER_KILLED), DEAD, error=WORKER_KILLED)
            return
        try:
            # Half the lease, so that it has ended for certain before anybody else may begin.
            async with asyncio.timeout(self.lease.total_seconds() / 2):
                await self.handlers[run.kind](run.payload)
        except asyncio.CancelledError:
            await self._settle(run, self.jobs.release(run), RELEASED)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the job is tried again
            await self._fail(run, error)
        else:
            await self._settle(run, self.jobs.finish(run), DONE)

    async def _fail(self, run: Run, error: Exception) -> None:
        # What it says stays out of the table and the log: there may be an address in it, or a secret.
        name = type(error).__name__[:100]
        if run.attempt < self.attempts:
            settlement, outcome = self.jobs.postpone(run, backoff(run.attempt), name), FAILED
        else:
            settlement, outcome = self.jobs.give_up(run, name), DEAD
        await self._settle(run, settlement, outcome, error=name, where=origin(error))

    async def _settle(self, run: Run, settlement: Awaitable[bool], outcome: Outcome, **facts: str) -> None:
        """Write down what became of an attempt, unless its lease ran out and the job is another worker's by now."""
        logger = log.bind(job_id=run.id, kind=run.kind, attempt=run.attempt)
        try:
            settled = await settlement
        except (SQLAlchemyError, OSError) as error:
            # The lease ends, and the job is done again: at least once is what was promised.
            logger.warning("job_unsettled", error=type(error).__name__)
        else:
            logger.log(outcome.level, outcome.event if settled else "job_overrun", **facts)

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
                run = None if self.stopping else await self._claim()
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
            async with self.queue.database.transaction() as transaction:
                for kind in self.daily:
                    await self.queue.schedule_tomorrow(transaction, kind)
            self.scheduled = today


def origin(error: Exception) -> str:
    """Return the file and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def log_death(task: asyncio.Task[None]) -> None:
    """Log a worker's death by a bug, which would go unseen until the process ends."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("worker_died", exc_info=error)
