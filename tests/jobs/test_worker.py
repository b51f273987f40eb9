"""The worker: no job is lost, no job is done twice at once, and a job that fails is tried again."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from anyio import to_thread
from sqlalchemy import QueuePool, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from app.database.sessions import Database, Transaction
from app.jobs.models import Payload
from app.jobs.queue import JobQueue
from app.jobs.repository import ClaimedJob
from app.jobs.worker import Worker, backoff
from app.operations.migrations import migrate
from tests.factories import open_database
from tests.jobs.workers import (
    SOON_SECONDS,
    Gate,
    Recorder,
    Refused,
    add,
    claim_and_die,
    fail,
    jobs_in,
    logged,
    make_due,
    numbered,
    worker_of,
)

# Running jobs ---------------------------------------------------------------------------------------------------------


async def test_three_workers_do_two_hundred_jobs_once_each(databases: Sequence[Database]) -> None:
    done: Counter[str | int] = Counter()
    finished = asyncio.Event()

    async def handler(payload: Payload) -> None:
        done[payload["n"]] += 1
        await asyncio.sleep(0)
        if len(done) == 200:
            finished.set()

    first, second, third = (worker_of(database, handler) for database in databases)
    await add(databases[0], *numbered(200))
    async with first.in_background(), second.in_background(), third.in_background():
        await asyncio.wait_for(finished.wait(), 30)
    assert set(done.values()) == {1}
    assert await jobs_in(databases[0]) == []


async def test_a_worker_finds_what_another_process_enqueued(databases: Sequence[Database]) -> None:
    recorder = Recorder()
    async with worker_of(databases[0], recorder, poll_seconds=0.1).in_background():
        await add(databases[1])
        await recorder.wait()


async def test_a_kind_that_the_worker_does_not_know_waits_for_one_that_does(database: Database) -> None:
    await add(database, kind="of-the-next-release")
    assert await worker_of(database, Recorder()).run_due() == 0
    [job] = await jobs_in(database)
    assert job.attempt == 0


async def test_a_worker_runs_no_more_jobs_at_once_than_it_may(database: Database) -> None:
    running, most, done = 0, 0, asyncio.Semaphore(0)

    async def handler(_payload: Payload) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        done.release()

    await add(database, *numbered(10))
    async with worker_of(database, handler, concurrency=3).in_background():
        for _ in range(10):
            await asyncio.wait_for(done.acquire(), SOON_SECONDS)
    assert most == 3


async def test_no_connection_is_held_while_a_handler_runs(database: Database) -> None:
    held = []
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)

    async def handler(_payload: Payload) -> None:
        held.append(pool.checkedout())
        await add(database, kind="another")  # On SQLite an open transaction would keep this one waiting.

    await add(database)
    assert await worker_of(database, handler).run_due() == 1
    assert held == [0]


async def test_a_handler_has_half_the_lease(database: Database) -> None:
    await add(database)
    await worker_of(database, Gate(), lease_seconds=0.2).run_due()
    [job] = await jobs_in(database)
    assert job.last_error == "TimeoutError"


# Workers that stop or die ---------------------------------------------------------------------------------------------

KILLED = """
import asyncio, sys, time
from datetime import timedelta
from app.database.sessions import Database
from app.jobs.queue import JobQueue
from app.jobs.worker import Worker

async def handler(payload):
    print("started", flush=True)
    time.sleep(60)

queue = JobQueue(Database(sys.argv[1]))
asyncio.run(Worker(queue, {"mail": handler}, lease=timedelta(seconds=1)).run())
"""


@pytest.mark.slow
@pytest.mark.direct("whose program opens a database of its own")
async def test_the_job_of_a_killed_worker_runs_again_after_its_lease(database: Database, database_url: str) -> None:
    await add(database, {"user_id": 7})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, database_url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"started\n"
    process.kill()
    await process.wait()
    recorder = Recorder()
    async with worker_of(database, recorder, poll_seconds=0.1).in_background():
        await recorder.wait()
    assert recorder.payloads == [{"user_id": 7}]
    assert await jobs_in(database) == []


async def test_an_attempt_whose_lease_ran_out_cannot_end_the_next_one(database: Database) -> None:
    first, second = Gate(), Gate()
    await add(database)
    late = asyncio.create_task(worker_of(database, first).run_due())
    await first.started.wait()
    await make_due(database)
    current = asyncio.create_task(worker_of(database, second).run_due())
    await second.started.wait()
    with capture_logs() as logs:
        first.opened.set()
        await late
    assert [(line["event"], line["attempt"]) for line in logs] == [("job_overrun", 1)]
    [job] = await jobs_in(database)
    assert job.attempt == 2
    second.opened.set()
    await current
    assert await jobs_in(database) == []


async def test_a_job_at_work_may_end_when_the_worker_stops(database: Database) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(_payload: Payload) -> None:
        started.set()
        while not worker.stopping:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0)
        ended.set()

    worker = worker_of(database, handler, concurrency=1)
    await add(database, {"n": 1}, {"n": 2})
    async with worker.in_background():
        await started.wait()
    assert ended.is_set()
    [unstarted] = await jobs_in(database)
    assert (unstarted.payload, unstarted.attempt) == ({"n": 2}, 0)


async def test_a_job_that_does_not_end_when_the_worker_stops_is_free_for_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.worker.STOP_SECONDS", 0.1)
    gate = Gate()
    await add(database)
    async with worker_of(database, gate).in_background():
        await gate.started.wait()
    assert await worker_of(database, Recorder()).run_due() == 1


class BrokenQueue(JobQueue):
    """A queue with a bug."""

    async def schedule_tomorrow(self, transaction: Transaction, kind: str) -> None:  # noqa: ARG002 - the queue's own
        raise Refused


async def test_the_death_of_a_worker_is_logged(database: Database) -> None:
    with logged("worker_died") as (_, died):
        async with Worker(BrokenQueue(database), {}, daily=["mail"]).in_background():
            await asyncio.wait_for(died.wait(), SOON_SECONDS)


async def test_a_worker_that_dies_is_started_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug ends it three times, and the job is done at the fourth start; meanwhile the worker counts as down."""
    monkeypatch.setattr("app.database.background.FIRST_DELAY_SECONDS", 0.01)
    recorder = Recorder()
    worker = worker_of(database, recorder)
    bugs = [ZeroDivisionError(), ZeroDivisionError(), ZeroDivisionError()]
    claim_next = worker.jobs.claim

    async def claim_badly(kinds: Sequence[str], lease: timedelta) -> ClaimedJob | None:
        if bugs:
            raise bugs.pop()
        return await claim_next(kinds, lease)

    monkeypatch.setattr(worker.jobs, "claim", claim_badly)
    await add(database)
    with capture_logs() as logs:
        async with worker.in_background():
            await recorder.wait()
            down = [worker.background.is_down]
            monkeypatch.setattr("app.database.background.STEADY_SECONDS", 0)
            down.append(worker.background.is_down)
    assert down == [True, False]
    assert [(line["event"], line["deaths"]) for line in logs if "deaths" in line] == [
        ("worker_died", 1),
        ("worker_died", 2),
        ("worker_died", 3),
    ]


# Databases that fail --------------------------------------------------------------------------------------------------


async def test_a_worker_waits_for_a_database_that_is_away(empty_database_url: str) -> None:
    recorder = Recorder()
    async with open_database(empty_database_url) as database:
        with logged("jobs_wait_for_database") as (logs, waits):
            async with worker_of(database, recorder, poll_seconds=0.1).in_background():
                await asyncio.wait_for(waits.wait(), SOON_SECONDS)
                await to_thread.run_sync(migrate, empty_database_url)
                await add(database)
                await recorder.wait()
    assert logs[-1]["event"] == "job_done"


async def test_a_job_whose_end_cannot_be_written_down_is_done_again(own_database_url: str) -> None:
    async with open_database(own_database_url) as database:

        async def handler(_payload: Payload) -> None:
            async with database.transaction() as transaction:
                await transaction.execute(text("ALTER TABLE jobs RENAME TO away"))

        await add(database)
        with capture_logs() as logs, pytest.raises(DBAPIError):
            await worker_of(database, handler).run_due()
        async with database.transaction() as transaction:
            await transaction.execute(text("ALTER TABLE away RENAME TO jobs"))
        assert logs[0]["event"] == "job_unsettled"
        await make_due(database)
        assert await worker_of(database, Recorder()).run_due() == 1


# Jobs that fail -------------------------------------------------------------------------------------------------------


async def test_a_failed_job_is_tried_again_later(database: Database) -> None:
    await add(database, {"email": "alice@example.org"})
    before = datetime.now(UTC)
    with capture_logs() as logs:
        assert await worker_of(database, fail).run_due() == 1
    [job] = await jobs_in(database)
    assert (job.attempt, job.last_error, job.failed_at) == (1, "Refused", None)
    assert timedelta(seconds=7) < job.run_at - before < timedelta(seconds=14)
    [line] = logs
    assert line.pop("where").startswith("workers.py:")
    assert line == {
        "event": "job_failed",
        "log_level": "warning",
        "job_id": job.id,
        "kind": "mail",
        "attempt": 1,
        "error": "Refused",
    }
    assert "secret" not in str(logs)
    assert "alice" not in str(logs)


def test_delays_double_up_to_an_hour_and_spread() -> None:
    for attempt in range(1, 13):
        seconds = [backoff(attempt).total_seconds() for _ in range(200)]
        expected = min(10 * 2 ** (attempt - 1), 3600)
        assert 0.75 * expected <= min(seconds) < max(seconds) <= 1.25 * expected


async def test_a_job_that_keeps_failing_becomes_a_dead_letter_that_can_be_retried(database: Database) -> None:
    worker = worker_of(database, fail, max_attempts=3)
    await add(database, {"n": 1}, {"n": 2})
    for _ in range(5):
        await worker.run_due()
        await make_due(database)
    dead = await worker.queue.dead_letters()
    assert [(job.attempt, job.last_error) for job in dead] == [(3, "Refused")] * 2
    assert await worker.queue.retry(dead[0].id) == 1
    assert await worker.queue.retry(dead[0].id) == 0
    recorder = Recorder()
    assert await worker_of(database, recorder).run_due() == 1
    assert recorder.payloads == [{"n": 1}]
    assert await worker.queue.retry() == 1
    assert await worker_of(database, recorder).run_due() == 1
    assert await jobs_in(database) == []


async def test_a_job_that_killed_its_workers_kills_no_more(database: Database) -> None:
    recorder = Recorder()
    await add(database)
    for _ in range(2):
        await claim_and_die(database)
    assert await worker_of(database, recorder, max_attempts=2).run_due() == 1
    [job] = await jobs_in(database)
    assert job.failed_at is not None
    assert job.last_error == "WorkerKilled"
    assert recorder.payloads == []


# Daily jobs -----------------------------------------------------------------------------------------------------------


async def test_a_daily_job_runs_once_a_day_however_many_workers_schedule_it(
    databases: Sequence[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    clock = datetime(2030, 1, 1, 12, tzinfo=UTC)
    for module in ("queue", "repository", "worker"):
        monkeypatch.setattr(f"app.jobs.{module}.now", lambda: clock)
    ran = []
    for _ in range(3):
        workers = [worker_of(database, recorder, daily=["mail"]) for database in databases]
        for hours in (0, 6, 6, 12):
            clock += timedelta(hours=hours)
            # At the same time, and once more each: a job that is done already isn't asked for again that day.
            ran.append(sum(await asyncio.gather(*(worker.run_due() for worker in workers))))
            ran.append(await worker_of(databases[0], recorder, daily=["mail"]).run_due())
    assert sum(ran) == len(recorder.payloads) == 3
    [tomorrow] = await jobs_in(databases[0])
    assert tomorrow.run_at == datetime(2030, 1, 5, 3, tzinfo=UTC)
