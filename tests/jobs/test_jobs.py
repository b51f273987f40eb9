"""Background jobs: nothing is lost, nothing is done before it may be, and what fails is tried again."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from anyio import to_thread
from click.testing import CliRunner
from httpx import AsyncClient
from litestar import Litestar, post
from litestar.di import Provide
from litestar.params import FromPath
from sqlalchemy import QueuePool, func, select, text, update
from structlog.testing import capture_logs

from app.__main__ import migrate
from app.database.sessions import Database
from app.http.requests import InTransaction
from app.jobs.models import Job, Payload
from app.jobs.queue import JobQueue
from app.jobs.repository import ClaimedJob
from app.jobs.worker import JobHandler, Worker, backoff, log_crash
from app.operations.commands import job_commands
from app.settings import Settings
from tests.factories import client_of, on_sqlite, register
from tests.programs import ROOT

NEVER_SECONDS = 3600
SOON_SECONDS = 15


class Recorder:
    """A handler that notes what it was given."""

    def __init__(self) -> None:
        self.payloads: list[Payload] = []
        self.called = asyncio.Event()

    async def __call__(self, payload: Payload) -> None:
        self.payloads.append(payload)
        self.called.set()


class Refused(Exception):
    """What the handlers of these tests fail with."""


async def fail(payload: Payload) -> None:
    raise Refused(f"{payload} with a secret")


async def hang(_payload: Payload) -> None:
    await asyncio.sleep(NEVER_SECONDS)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


def worker_of(
    database: Database,
    handler: JobHandler,
    *,
    concurrency: int = 4,
    attempts: int = 12,
    lease_seconds: float = 60,
    poll_seconds: float = NEVER_SECONDS,
    daily: Sequence[str] = (),
) -> Worker:
    """A worker that knows one kind, `mail`, and by default doesn't look for jobs by itself."""
    return Worker(
        JobQueue(database),
        {"mail": handler},
        daily=daily,
        concurrency=concurrency,
        max_attempts=attempts,
        lease=timedelta(seconds=lease_seconds),
        poll_seconds=poll_seconds,
    )


async def claim(worker: Worker) -> ClaimedJob | None:
    """Claim the next job, as a worker does that is killed before it ends."""
    return await worker.jobs.claim(list(worker.handlers), worker.lease)


async def add(
    database: Database, *payloads: Payload, kind: str = "mail", run_at: datetime | None = None, key: str | None = None
) -> None:
    """Enqueue jobs in one transaction, as another process does: no worker here is woken."""
    queue = JobQueue(database)
    async with database.transaction() as transaction:
        for payload in payloads or ({},):
            await queue.enqueue(transaction, kind, payload, run_at=run_at, key=key)


def numbered(count: int) -> list[Payload]:
    return [{"n": n} for n in range(count)]


async def rows(database: Database) -> list[Job]:
    async with database.transaction() as session:
        return list(await session.scalars(select(Job).order_by(Job.id)))


async def make_due(database: Database) -> None:
    """Let the time pass that the jobs wait for."""
    async with database.transaction() as session:
        await session.execute(update(Job).values(run_at=datetime(2000, 1, 1, tzinfo=UTC)))


# Enqueueing -----------------------------------------------------------------------------------------------------------


async def test_a_request_that_is_rolled_back_leaves_no_job(database: Database) -> None:
    recorder = Recorder()
    worker = worker_of(database, recorder)

    @post("/{fails:int}")
    async def handler(transaction: InTransaction, fails: FromPath[int]) -> None:
        await worker.queue.enqueue(transaction, "mail", {"user_id": fails})
        if fails:
            raise Refused

    dependencies = {"transaction": Provide(database.provide_transaction)}
    app = Litestar([handler], dependencies=dependencies, logging_config=None)
    async with worker.in_background(), client_of(app) as client:
        assert (await client.post("/1")).status_code == 500
        assert (await client.post("/0")).status_code == 201
        await asyncio.wait_for(recorder.called.wait(), SOON_SECONDS)
    assert recorder.payloads == [{"user_id": 0}]
    assert await rows(database) == []


async def test_a_job_runs_right_after_the_commit_and_not_before(database: Database) -> None:
    recorder = Recorder()
    worker = worker_of(database, recorder)
    async with worker.in_background():
        async with database.transaction() as transaction:
            await worker.queue.enqueue(transaction, "mail", {"user_id": 1})
            await transaction.flush()
            await asyncio.sleep(0.2)
            assert not recorder.called.is_set()
        # The worker polls once an hour: only the commit can have woken it.
        await asyncio.wait_for(recorder.called.wait(), SOON_SECONDS)


async def test_a_worker_finds_what_another_process_enqueued(database: Database, database_url: str) -> None:
    recorder = Recorder()
    other = Database(database_url)
    async with worker_of(database, recorder, poll_seconds=0.1).in_background():
        await add(other)
        await asyncio.wait_for(recorder.called.wait(), SOON_SECONDS)
    await other.close()


async def test_of_jobs_with_the_same_key_the_first_is_kept(database: Database) -> None:
    await add(database, {"n": 1}, {"n": 2}, key="once")
    await add(database, {"n": 3}, key="once")
    await add(database, {"n": 4}, {"n": 5})
    assert [job.payload["n"] for job in await rows(database)] == [1, 4, 5]


async def test_a_job_waits_for_its_time(database: Database) -> None:
    recorder = Recorder()
    worker = worker_of(database, recorder)
    await add(database, run_at=datetime.now(UTC) + timedelta(hours=1))
    assert await worker.run_due() == 0
    await make_due(database)
    assert await worker.run_due() == 1


async def test_a_kind_that_the_worker_does_not_know_waits_for_one_that_does(database: Database) -> None:
    await add(database, kind="of-the-next-release")
    assert await worker_of(database, Recorder()).run_due() == 0
    [job] = await rows(database)
    assert job.attempt == 0


# Working --------------------------------------------------------------------------------------------------------------


async def test_three_workers_do_two_hundred_jobs_once_each(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(3)]
    done: Counter[str | int] = Counter()
    finished = asyncio.Event()

    async def handler(payload: Payload) -> None:
        done[payload["n"]] += 1
        await asyncio.sleep(0)
        if len(done) == 200:
            finished.set()

    workers = [worker_of(database, handler) for database in databases]
    await add(databases[0], *numbered(200))
    async with workers[0].in_background(), workers[1].in_background(), workers[2].in_background():
        await asyncio.wait_for(finished.wait(), 30)
    assert set(done.values()) == {1}
    assert await rows(databases[0]) == []
    for database in databases:
        await database.close()


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
        await asyncio.wait_for(recorder.called.wait(), SOON_SECONDS)
    assert recorder.payloads == [{"user_id": 7}]
    assert await rows(database) == []


async def test_an_attempt_whose_lease_ran_out_cannot_end_the_next_one(database: Database) -> None:
    recorder = Recorder()
    worker = worker_of(database, recorder)
    await add(database)
    late = await claim(worker)
    assert late is not None
    await make_due(database)
    current = await claim(worker)
    with capture_logs() as logs:
        await worker.run_job(late)
    assert [(line["event"], line["attempt"]) for line in logs] == [("job_overrun", 1)]
    [job] = await rows(database)
    assert job.attempt == 2
    assert current is not None
    await worker.run_job(current)
    assert await rows(database) == []


async def test_a_handler_has_half_the_lease(database: Database) -> None:
    await add(database)
    await worker_of(database, hang, lease_seconds=0.2).run_due()
    [job] = await rows(database)
    assert job.last_error == "TimeoutError"


async def test_a_job_at_work_may_end_when_the_worker_stops(database: Database) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(_payload: Payload) -> None:
        started.set()
        await asyncio.sleep(0.2)
        ended.set()

    await add(database, {"n": 1}, {"n": 2})
    async with worker_of(database, handler, concurrency=1).in_background():
        await started.wait()
    assert ended.is_set()
    [unstarted] = await rows(database)
    assert (unstarted.payload, unstarted.attempt) == ({"n": 2}, 0)


async def test_a_job_that_does_not_end_then_is_free_for_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.worker.STOP_SECONDS", 0.1)
    started = asyncio.Event()

    async def handler(payload: Payload) -> None:
        started.set()
        await hang(payload)

    await add(database)
    async with worker_of(database, handler).in_background():
        await started.wait()
    assert await worker_of(database, Recorder()).run_due() == 1


async def test_a_worker_waits_for_a_database_that_is_away(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    recorder = Recorder()
    with capture_logs() as logs:
        async with worker_of(database, recorder, poll_seconds=0.1).in_background():
            await asyncio.sleep(0.3)
            await to_thread.run_sync(migrate, empty_database_url)
            await add(database)
            await asyncio.wait_for(recorder.called.wait(), SOON_SECONDS)
    assert logs[0]["event"] == "jobs_wait_for_database"
    assert logs[-1]["event"] == "job_done"
    await database.close()


async def test_a_job_whose_end_cannot_be_written_down_is_done_again(empty_database_url: str) -> None:
    await to_thread.run_sync(migrate, empty_database_url)
    database = Database(empty_database_url)

    async def handler(_payload: Payload) -> None:
        async with database.transaction() as session:
            await session.execute(text("ALTER TABLE jobs RENAME TO away"))

    await add(database)
    worker = worker_of(database, handler)
    run = await claim(worker)
    assert run is not None
    with capture_logs() as logs:
        await worker.run_job(run)
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE away RENAME TO jobs"))
    assert logs[0]["event"] == "job_unsettled"
    await make_due(database)
    assert await worker_of(database, Recorder()).run_due() == 1
    await database.close()


async def test_the_death_of_a_worker_is_logged() -> None:
    async def die() -> None:
        raise Refused

    with capture_logs() as logs:
        task = asyncio.create_task(die())
        task.add_done_callback(log_crash)
        await asyncio.wait([task])
        await asyncio.sleep(0)
    assert logs[0]["event"] == "worker_died"


# Failing --------------------------------------------------------------------------------------------------------------


async def test_a_failed_job_is_tried_again_later(database: Database) -> None:
    await add(database, {"email": "alice@example.org"})
    before = datetime.now(UTC)
    with capture_logs() as logs:
        assert await worker_of(database, fail).run_due() == 1
    [job] = await rows(database)
    assert (job.attempt, job.last_error, job.failed_at) == (1, "Refused", None)
    assert timedelta(seconds=7) < job.run_at - before < timedelta(seconds=14)
    [line] = logs
    assert line.pop("where").startswith("test_jobs.py:")
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
    worker = worker_of(database, fail, attempts=3)
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
    assert await rows(database) == []


async def test_a_job_that_killed_its_workers_kills_no_more(database: Database) -> None:
    recorder = Recorder()
    worker = worker_of(database, recorder, attempts=2)
    await add(database)
    for _ in range(2):
        assert await claim(worker) is not None
        await make_due(database)
    assert await worker.run_due() == 1
    [job] = await rows(database)
    assert job.failed_at is not None
    assert job.last_error == "WorkerKilled"
    assert recorder.payloads == []


# Daily jobs -----------------------------------------------------------------------------------------------------------


async def test_a_daily_job_runs_once_a_day_however_many_workers_schedule_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases = [Database(database_url) for _ in range(3)]
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
            ran.append(sum([await worker_of(databases[0], recorder, daily=["mail"]).run_due()]))
    assert sum(ran) == len(recorder.payloads) == 3
    [tomorrow] = await rows(databases[0])
    assert tomorrow.run_at == datetime(2030, 1, 5, 3, tzinfo=UTC)
    for database in databases:
        await database.close()


async def test_three_transactions_at_once_schedule_one_daily_job(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(3)]

    async def schedule(database: Database) -> None:
        async with database.transaction() as transaction:
            await JobQueue(database).schedule_tomorrow(transaction, "purge")

    await asyncio.gather(*(schedule(database) for database in databases))
    async with databases[0].transaction() as session:
        assert await session.scalar(select(func.count()).select_from(Job)) == 1
    for database in databases:
        await database.close()


# The operator's commands ----------------------------------------------------------------------------------------------


async def command(url: str, *arguments: str) -> tuple[int, str]:
    """The exit status of a command of the group `jobs`, and what it printed; it runs an event loop of its own."""
    worker = worker_of(Database(url), Recorder())
    group = click.Group(commands=[job_commands(worker.queue, worker)])
    result = await to_thread.run_sync(lambda: CliRunner().invoke(group, ["jobs", *arguments]))
    return result.exit_code, result.output


def read_files(directory: str) -> list[tuple[str, str]]:
    return [(str(path), path.read_text()) for path in Path(directory).iterdir()]


async def bury(database: Database, count: int) -> None:
    await add(database, *numbered(count))
    await worker_of(database, fail, attempts=1).run_due()


async def test_an_operator_lists_dead_letters_without_what_they_hold(database: Database, database_url: str) -> None:
    assert await command(database_url, "dead") == (0, "")
    await add(database, {"email": "alice@example.org"})
    await worker_of(database, fail, attempts=1).run_due()
    status, output = await command(database_url, "dead")
    assert (status, output.split()[:2], output.split()[-1]) == (0, ["1", "mail"], "Refused")
    assert "alice" not in output


async def test_an_operator_retries_one_dead_letter_or_all(database: Database, database_url: str) -> None:
    await bury(database, 3)
    assert await command(database_url, "retry", "2") == (0, "1 jobs enqueued again\n")
    status, output = await command(database_url, "retry", "2")
    assert (status, output) == (1, "No job 2 was given up; `litestar jobs dead` lists those that were\n")
    assert await command(database_url, "retry", "--all") == (0, "2 jobs enqueued again\n")
    status, output = await command(database_url, "run")
    assert (status, output.splitlines()[-1]) == (0, "3 jobs run")
    assert await rows(database) == []


async def test_an_operator_must_say_what_to_retry(database_url: str) -> None:
    for arguments in ([], ["1", "--all"], ["0"]):
        assert (await command(database_url, "retry", *arguments))[0] == 2


@on_sqlite
async def test_a_worker_of_its_own_runs_until_it_is_terminated(
    client: AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    await register(client, "alice")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": settings.secret_key,
        "DATABASE_URL": settings.database_url,
        "MAIL_DIR": settings.mail_dir,
        "LITESTAR_APP": "app.main:app",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "litestar", "jobs", "work"),
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = b""
    while b"job_done" not in output:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line, output
        output += line
    process.terminate()
    assert await asyncio.wait_for(process.wait(), SOON_SECONDS) == 0
    [(path, mail)] = read_files(settings.mail_dir)
    assert path.encode() in output
    assert "To: alice@example.org\n" in mail
