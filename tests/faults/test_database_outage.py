"""PostgreSQL goes away under load and comes back, while the service runs on."""

import asyncio
from pathlib import Path

import pytest

from tests.factories import register
from tests.faults.production import Record, Writers, execute, item_ids, production, signed_in
from tests.postgresql import Server
from tests.problems import assert_problem

pytestmark = pytest.mark.faults


async def test_what_was_acknowledged_outlives_two_crashes(
    crashable: Server, tmp_path: Path, record_property: Record
) -> None:
    """Of 16 writers, none gets an answer but 201 and 503; two seconds after its return, all is served again.

    Background jobs go on, too.
    """
    recoveries = []
    with production(tmp_path, crashable.url) as (url, _):
        async with signed_in(url) as client:
            async with Writers.at_work(client, 16) as writers:
                for _ in range(2):
                    await asyncio.sleep(1)
                    await asyncio.to_thread(crashable.stop, "immediate")
                    await asyncio.sleep(0.5)
                    assert_problem(await client.get("/health/ready"), 503, "The database does not answer")
                    assert (await client.get("/health/live")).status_code == 200
                    await asyncio.to_thread(crashable.start)
                    recoveries.append(await writers.seconds_until_served())
                await asyncio.sleep(0.5)
            assert (await client.get("/health/ready")).status_code == 200
            assert (await register(client, "bob")).status_code == 201
        await wait_for_mail("bob@example.org", tmp_path / "outbox")
    assert max(recoveries) < 2
    assert writers.answers.keys() == {201, 503}
    lost = writers.acknowledged - await item_ids(crashable.url)
    record_property("acknowledged", len(writers.acknowledged))
    record_property("refused", writers.answers[503])
    record_property("lost", len(lost))
    record_property("seconds to recover", [round(seconds, 2) for seconds in recoveries])
    assert not lost


async def wait_for_mail(address: str, outbox: Path) -> None:
    """Wait until the service has sent a mail to an address."""
    async with asyncio.timeout(15):
        while not any(f"To: {address}\n" in mail for mail in await asyncio.to_thread(read_all, outbox)):  # noqa: ASYNC110 - a folder tells nobody that it grew
            await asyncio.sleep(0.1)


def read_all(folder: Path) -> list[str]:
    """Return the texts of all mails in a folder."""
    return [path.read_text() for path in folder.glob("*.eml")]


# The trigger runs at COMMIT, after the row was flushed, and ends the server's process that it runs in.
KILLED_AT_COMMIT = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER kill_items AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION die();
CREATE CONSTRAINT TRIGGER kill_users AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION die();
"""


async def test_a_backend_that_is_killed_between_flush_and_commit_acknowledges_nothing(
    empty_postgresql_url: str, tmp_path: Path
) -> None:
    """That is so for a single statement and for a transaction, and the pool replaces the connections that it lost."""
    with production(tmp_path, empty_postgresql_url) as (url, _):
        async with signed_in(url) as client:
            await execute(empty_postgresql_url, KILLED_AT_COMMIT)
            for number in range(12):  # more often than the pool has connections
                for headers in ({}, {"Idempotency-Key": str(number)}):
                    answer = await client.post("/items/", json={"title": "Umbrella"}, headers=headers)
                    assert_problem(answer, 503)
                assert_problem(await register(client, "bob"), 503)
            await execute(empty_postgresql_url, "DROP TRIGGER kill_items ON items; DROP TRIGGER kill_users ON users")
            assert (await client.get("/items/")).json() == []
            again = await client.post("/items/", json={"title": "Umbrella"}, headers={"Idempotency-Key": "0"})
            assert again.status_code == 201
            assert (await register(client, "bob")).status_code == 201
    assert await item_ids(empty_postgresql_url) == {again.json()["id"]}
