"""The queue: a job is kept with the transaction that asks for it, and once for each key."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from litestar import Litestar, post
from litestar.di import Provide
from litestar.params import FromPath

from app.database.sessions import Database
from app.http.requests import InTransaction
from app.jobs.queue import JobQueue
from tests.factories import client_of
from tests.jobs.workers import Recorder, Refused, add, jobs_in, make_due, worker_of


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
        await recorder.wait()
    assert recorder.payloads == [{"user_id": 0}]
    assert await jobs_in(database) == []


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
        await recorder.wait()


async def test_of_jobs_with_the_same_key_the_first_is_kept(database: Database) -> None:
    await add(database, {"n": 1}, {"n": 2}, key="once")
    await add(database, {"n": 3}, key="once")
    await add(database, {"n": 4}, {"n": 5})
    assert [job.payload["n"] for job in await jobs_in(database)] == [1, 4, 5]


async def test_a_job_waits_for_its_time(database: Database) -> None:
    worker = worker_of(database, Recorder())
    await add(database, run_at=datetime.now(UTC) + timedelta(hours=1))
    assert await worker.run_due() == 0
    await make_due(database)
    assert await worker.run_due() == 1


async def test_three_transactions_at_once_schedule_one_daily_job(databases: Sequence[Database]) -> None:
    async def schedule(database: Database) -> None:
        async with database.transaction() as transaction:
            await JobQueue(database).schedule_tomorrow(transaction, "purge")

    await asyncio.gather(*(schedule(database) for database in databases))
    assert len(await jobs_in(databases[0])) == 1
