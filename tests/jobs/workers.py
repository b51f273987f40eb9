"""Jobs, the handlers that run them, and workers, for the tests of both."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update
from structlog.testing import capture_logs
from structlog.typing import EventDict, WrappedLogger

from app.database.sessions import Database
from app.jobs.models import Job, Payload
from app.jobs.queue import JobQueue
from app.jobs.repository import JobRepository
from app.jobs.worker import Worker

NEVER_SECONDS = 3600
SOON_SECONDS = 15


class Recorder:
    """A handler that keeps the payloads it was given."""

    def __init__(self) -> None:
        self.payloads: list[Payload] = []
        self.called = asyncio.Event()

    async def __call__(self, payload: Payload) -> None:
        self.payloads.append(payload)
        self.called.set()

    async def wait(self) -> None:
        """Wait until the handler has been called; fail when it takes too long."""
        await asyncio.wait_for(self.called.wait(), SOON_SECONDS)


class Gate:
    """A handler that doesn't end before it is opened."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, _payload: Payload) -> None:
        self.started.set()
        await self.opened.wait()


class Refused(Exception):
    """The error that handlers of these tests fail with."""


async def fail(payload: Payload) -> None:
    """Fail, with the payload in the error's text."""
    raise Refused(f"{payload} with a secret")


def worker_of(
    database: Database,
    handler: Callable[[Payload], Awaitable[None]],
    *,
    concurrency: int = 4,
    max_attempts: int = 12,
    lease_seconds: float = 60,
    poll_seconds: float = NEVER_SECONDS,
    daily: Sequence[str] = (),
) -> Worker:
    """Return a worker that knows one kind of job, `mail`, and by default doesn't look for jobs by itself."""
    return Worker(
        JobQueue(database),
        {"mail": handler},
        daily=daily,
        concurrency=concurrency,
        max_attempts=max_attempts,
        lease=timedelta(seconds=lease_seconds),
        poll_seconds=poll_seconds,
    )


async def add(
    database: Database, *payloads: Payload, kind: str = "mail", run_at: datetime | None = None, key: str | None = None
) -> None:
    """Enqueue jobs in one transaction, as another process does: no worker here is woken."""
    queue = JobQueue(database)
    async with database.transaction() as transaction:
        for payload in payloads or ({},):
            await queue.enqueue(transaction, kind, payload, run_at=run_at, key=key)


def numbered(count: int) -> list[Payload]:
    """Return so many payloads, each with a number of its own."""
    return [{"n": n} for n in range(count)]


async def jobs_in(database: Database) -> list[Job]:
    """Return all rows of the table of jobs, oldest first."""
    async with database.reading() as session:
        return list(await session.scalars(select(Job).order_by(Job.id)))


async def make_due(database: Database) -> None:
    """Let the time pass that the jobs wait for."""
    async with database.transaction() as transaction:
        await transaction.execute(update(Job).values(run_at=datetime(2000, 1, 1, tzinfo=UTC)))


async def claim_and_die(database: Database) -> None:
    """Claim the next job and never settle it, as a worker that is killed does; its lease has ended afterwards."""
    assert await JobRepository(database).claim(["mail"], timedelta(seconds=60))
    await make_due(database)


@contextmanager
def logged(event: str) -> Iterator[tuple[Sequence[EventDict], asyncio.Event]]:
    """Capture the log; give its lines, and an event that is set once one of them has this name."""
    seen = asyncio.Event()

    def note(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        if line["event"] == event:
            seen.set()
        return line

    with capture_logs(processors=[note]) as lines:
        yield lines, seen
