"""The limit on mails: one mailbox gets five an hour for one cause, and what is over that waits and isn't lost."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from app.database.models import now
from app.database.sessions import Database
from app.jobs import mailboxes
from app.jobs.mailboxes import NOTICES, RESETS, MailQueue, Quota, next_time, plain_mailbox
from app.jobs.models import Job, MailCount
from app.jobs.queue import JobQueue
from tests.jobs.workers import SOON_SECONDS, Gate, Recorder, jobs_in, make_due, worker_of

HOUR = timedelta(hours=1)
MAILBOX = "alice@example.org"


def quota(cause: str = NOTICES, address: str = MAILBOX, user_id: int = 1, *, confirmed: bool = True) -> Quota:
    """Return a quota, by default that of notices to alice, who has confirmed her address."""
    return Quota.of(cause, address, user_id, confirmed=confirmed)


async def mail(database: Database, count: int = 1, *, of: Quota | None = None, first: int = 0) -> None:
    """Enqueue numbered mails, each in a transaction of its own."""
    queue = MailQueue(JobQueue(database), secret="secret")
    for number in range(first, first + count):
        async with database.transaction() as transaction:
            await queue.enqueue(transaction, "mail", {"n": number}, of or quota())


def due(jobs: Sequence[Job]) -> list[object]:
    """Return the numbers of the mails that are due."""
    return [job.payload["n"] for job in jobs if job.run_at <= now()]


def waiting(jobs: Sequence[Job]) -> list[object]:
    """Return the numbers of the mails that wait."""
    return [job.payload["n"] for job in jobs if job.run_at > now()]


async def until(database: Database, condition: Callable[[Sequence[Job]], bool]) -> None:
    """Wait until the jobs are as the condition says."""
    async with asyncio.timeout(SOON_SECONDS):
        while not condition(await jobs_in(database)):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


async def test_the_sixth_mail_waits_until_an_hour_after_the_first(database: Database) -> None:
    before = now()
    await mail(database, 6)
    jobs = await jobs_in(database)
    assert (due(jobs), waiting(jobs)) == ([0, 1, 2, 3, 4], [5])
    assert before + HOUR <= jobs[-1].run_at <= now() + HOUR


async def test_of_all_that_are_over_the_limit_the_last_one_waits(database: Database) -> None:
    await mail(database, 111)
    jobs = await jobs_in(database)
    assert (due(jobs), waiting(jobs)) == ([0, 1, 2, 3, 4], [110])


async def test_processes_that_mail_at_once_keep_the_limit_together(databases: Sequence[Database]) -> None:
    await asyncio.gather(*(mail(databases[number % 3], first=number) for number in range(24)))
    jobs = await jobs_in(databases[0])
    assert (len(due(jobs)), len(waiting(jobs))) == (5, 1)


async def test_no_hour_has_more_than_five(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has a mail sent every ten minutes for six hours, and whatever waits is sent when it is due."""
    clock = datetime(2030, 1, 1, tzinfo=UTC)
    for module in ("mailboxes", "repository", "worker"):
        monkeypatch.setattr(f"app.jobs.{module}.now", lambda: clock)
    sent: list[datetime] = []

    async def handler(_payload: object) -> None:
        sent.append(clock)

    for _ in range(36):
        await mail(database, 2)
        for _ in range(10):
            await worker_of(database, handler).run_due()
            clock += timedelta(minutes=1)
    assert len(sent) > 25
    for first, sixth in zip(sent, sent[5:], strict=False):
        assert sixth - first >= HOUR


async def test_a_clock_that_was_ahead_delays_no_mail(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = now() + timedelta(days=30)
    monkeypatch.setattr(mailboxes, "now", lambda: ahead)
    await mail(database, 6)
    monkeypatch.undo()
    await mail(database, 1, first=6)
    assert due(await jobs_in(database))[-1] == 6


async def test_each_cause_each_mailbox_and_each_kind_counts_apart(database: Database) -> None:
    await mail(database, 6)
    for other in (quota(RESETS), quota(address="bob@example.org", user_id=2), quota(confirmed=False)):
        await mail(database, 6, of=other)
    jobs = await jobs_in(database)
    assert (len(due(jobs)), len(waiting(jobs))) == (20, 4)


async def test_what_happens_while_a_mail_is_sent_gets_a_mail_of_its_own(database: Database) -> None:
    """The mail that is being sent was perhaps written before it happened."""
    await mail(database, 6)
    await make_due(database)
    gate = Gate()
    worker = worker_of(database, gate, concurrency=6)
    async with worker.in_background():
        await gate.started.wait()
        await until(database, lambda jobs: all(job.attempt for job in jobs))
        await mail(database, first=6)
        gate.opened.set()
        await until(database, lambda jobs: len(jobs) == 1)
    assert [job.payload for job in await jobs_in(database)] == [{"n": 6}]


async def test_a_mail_that_was_given_up_keeps_no_other_out(database: Database) -> None:
    await mail(database, 6)
    await make_due(database)

    async def fail(_payload: object) -> None:
        raise ConnectionError

    await worker_of(database, fail, max_attempts=1).run_due()
    await mail(database, first=6)
    recorder = Recorder()
    await make_due(database)
    assert await worker_of(database, recorder).run_due() == 1
    assert recorder.payloads == [{"n": 6}]


async def test_a_transaction_that_is_rolled_back_counts_nothing(database: Database) -> None:
    queue = MailQueue(JobQueue(database), secret="secret")
    for _ in range(9):
        async with database.transaction() as transaction:
            await queue.enqueue(transaction, "mail", {"n": 0}, quota())
            await transaction.rollback()
    await mail(database, 5)
    assert len(due(await jobs_in(database))) == 5


async def test_counts_hold_no_address_and_are_forgotten(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await mail(database, 3)
    await mail(database, 6, of=quota(RESETS))
    async with database.reading() as session:
        rows = list(await session.scalars(select(MailCount)))
    assert all(len(row.name) == 16 and b"alice" not in row.name for row in rows)
    counts = MailQueue(JobQueue(database), secret="secret").counts
    later = now() + HOUR
    monkeypatch.setattr("app.jobs.repository.now", lambda: later)
    assert await counts.purge() == 1  # the other one still has a mail to send
    later += HOUR
    assert await counts.purge() == 1


def test_the_next_time_is_that_at_which_the_hour_has_room() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    times = [(moment - timedelta(minutes=minutes)).timestamp() for minutes in (50, 40, 30, 20, 10)]
    assert next_time([], moment) == next_time(times[1:], moment) == moment
    assert next_time(times, moment) == moment + timedelta(minutes=10)
    assert next_time([*times, next_time(times, moment).timestamp()], moment) == moment + timedelta(minutes=20)
    assert mailboxes.MOST_MAILS == 5


@pytest.mark.parametrize("address", [MAILBOX, "alice+1@example.org", "a.li.ce+x+y@example.org", "a.lice@example.org"])
def test_an_address_that_nobody_has_confirmed_counts_by_its_mailbox(address: str) -> None:
    assert plain_mailbox(address) == MAILBOX
    assert quota(address=address, user_id=7, confirmed=False) == quota(confirmed=False)
    assert quota(address=address, user_id=7) != quota(user_id=7) or address == MAILBOX
