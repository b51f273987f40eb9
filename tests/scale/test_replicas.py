"""A primary and a hot standby under load: clients read their own writes, also while the standby lags or fails."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest
from httpx import AsyncClient

from tests.factories import PASSWORD, SECRET, log_in, register
from tests.postgresql import Server, durable_server, hot_standby
from tests.programs import service

AFTER_WRITE_SECONDS = 5
LAG_SECONDS = 3  # what is left of it for a standby to lag
SLACK_SECONDS = 5  # for a machine that is busy with other things
Record = Callable[[str, object], None]

READS = "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'items'"


def folder_of_server() -> TemporaryDirectory[str]:
    """Make a folder for a server; not in TMPDIR, which may be closed to the user that the server runs as."""
    return TemporaryDirectory(prefix="postgresql-", dir="/tmp")


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    """The primary of the tests of this file."""
    with folder_of_server() as folder, durable_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary: Server) -> Iterator[Server]:
    """The hot standby of the tests of this file."""
    with folder_of_server() as folder, hot_standby(folder, primary) as server:
        yield server


@pytest.fixture
async def address(primary: Server, standby: Server, tmp_path: Path, free_tcp_port: int) -> AsyncIterator[str]:
    """The address of the service: two workers, which share nothing but the databases."""
    variables = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": primary.url,
        "DATABASE_REPLICA_URLS": standby.url,
        "READ_FROM_PRIMARY_SECONDS": str(AFTER_WRITE_SECONDS),
        "WORKERS": "2",
        "METRICS": "true",
    }
    with service(tmp_path, free_tcp_port, **variables):
        yield f"http://127.0.0.1:{free_tcp_port}"


async def execute(server: Server, statement: str) -> str | int | None:
    """Run a statement, and return the first value of its rows."""
    connection = await asyncpg.connect(server.url)
    try:
        value: str | int | None = await connection.fetchval(statement)
        return value
    finally:
        await connection.close()


@asynccontextmanager
async def sessions(address: str, number: int) -> AsyncIterator[list[AsyncClient]]:
    """Open clients that are signed in as one user, each in a session of its own."""
    username = f"user{time.monotonic_ns()}"
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(base_url=address, timeout=30)) for _ in range(number)]
        assert (await register(clients[0], username, password=PASSWORD)).status_code == 201
        for client in clients:
            token = (await log_in(client, username)).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
        yield clients


async def is_ready(client: AsyncClient) -> bool:
    """Return whether every worker finds that the standby may be read from."""
    lines = (await client.get("/metrics")).text.splitlines()
    values = [line.rpartition(" ")[2] for line in lines if line.startswith("db_replica_ready{")]
    return values == ["1.0"]


async def wait_until_ready(client: AsyncClient, *, ready: bool, within: float) -> float:
    """Wait until the standby is taken in or left out; return how many seconds that took."""
    began = time.monotonic()
    while await is_ready(client) is not ready:
        assert time.monotonic() - began < within
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def reads_of(server: Server) -> int:
    """Return how often items were read from a server so far."""
    await asyncio.sleep(1.5)  # a backend reports its counts once a second
    value = await execute(server, READS)
    return int(value or 0)


async def delay_replay(standby: Server, seconds: int) -> None:
    """Have the standby replay each commit so many seconds later."""
    await execute(standby, f"ALTER SYSTEM SET recovery_min_apply_delay = '{seconds}s'")
    await execute(standby, "SELECT pg_reload_conf()")


class Clients:
    """Counts of the answers that clients got, by status, and of the items that were missing from them."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.created: list[tuple[float, int]] = [(0, 0)]

    async def get(self, client: AsyncClient, path: str) -> list[int]:
        """Read items; return the ids in the answer."""
        answer = await client.get(path)
        self.seen[f"GET {answer.status_code}"] += 1
        body = answer.json()
        return [item["id"] for item in (body if isinstance(body, list) else [body]) if "id" in item]

    async def create(self, client: AsyncClient) -> int:
        """Create an item, and return its id."""
        answer = await client.post("/items/", json={"title": "Umbrella"})
        self.seen[f"POST {answer.status_code}"] += 1
        item_id: int = answer.json()["id"]
        self.created.append((time.monotonic(), item_id))
        return item_id

    def newest(self, seconds_ago: float = 0) -> int:
        """Return the newest item that was there so many seconds ago."""
        then = time.monotonic() - seconds_ago
        return max(item_id for moment, item_id in self.created if moment <= then)

    async def write_and_read(self, client: AsyncClient, until: float) -> None:
        """Create items, and read each at once, and again a random time later."""
        while time.monotonic() < until:
            item_id = await self.create(client)
            for pause in (0, random.uniform(0, 2 * AFTER_WRITE_SECONDS)):  # noqa: S311 - no secret
                await asyncio.sleep(pause)
                for path in (f"/items/{item_id}", "/items/?limit=100", "/items/?limit=100&q=umbrella&count=true"):
                    self.seen["own reads"] += 1
                    self.seen["own writes missed"] += item_id not in await self.get(client, path)

    async def read_only(self, client: AsyncClient, until: float) -> None:
        """Only read, and count how often others' items come late."""
        while time.monotonic() < until:
            newest, bound = self.newest(), self.newest(LAG_SECONDS)
            found = max(await self.get(client, "/items/?limit=5"), default=0)
            self.seen["seen late"] += found < newest
            self.seen["seen too late"] += found < bound

    def report(self, record: Record, **figures: float) -> None:
        """Record the counts and other figures, to be shown at the end."""
        for name, value in {**self.seen, **figures}.items():
            record(name, round(value, 2))

    def statuses(self) -> set[str]:
        """Return the methods and statuses of all answers."""
        return {name for name in self.seen if name.startswith(("GET", "POST"))}


async def test_with_a_late_standby_every_client_reads_its_own_writes(
    address: str, standby: Server, record_property: Record
) -> None:
    """It does so whichever worker answers, at once and later, when the session reads from the standby again.

    Others may see an item late, but never later than the bound.
    """
    await delay_replay(standby, 2)
    clients = Clients()
    async with sessions(address, 26) as (idle, other, *writers):
        before, until = await reads_of(standby), time.monotonic() + 25
        await asyncio.gather(
            *(clients.write_and_read(writer, until) for writer in writers),
            *(clients.read_only(client, until) for client in (idle, other)),
        )
        arrived = await reads_of(standby) - before
    await delay_replay(standby, 0)
    clients.report(record_property, arrived=arrived)
    assert clients.statuses() == {"GET 200", "POST 201"}
    assert clients.seen["own writes missed"] == 0
    assert clients.seen["own reads"] > 100
    assert clients.seen["seen late"] > 0
    assert clients.seen["seen too late"] == 0
    assert arrived > 100


async def test_a_standby_that_lags_too_far_is_left_out_and_taken_back(
    address: str, standby: Server, record_property: Record
) -> None:
    """It is left out within the bound, so that no client reads anything older, and every request succeeds."""
    clients = Clients()
    async with sessions(address, 5) as (idle, other, prompt, *writers):
        await wait_until_ready(idle, ready=True, within=AFTER_WRITE_SECONDS + SLACK_SECONDS)
        load = [
            asyncio.create_task(task)
            for task in (
                *(clients.write_and_read(writer, time.monotonic() + 20) for writer in writers),
                *(clients.read_only(client, time.monotonic() + 20) for client in (idle, other)),
            )
        ]
        await asyncio.sleep(AFTER_WRITE_SECONDS)
        await execute(standby, "SELECT pg_wal_replay_pause()")
        await clients.create(prompt)  # Until somebody writes, it doesn't lag.
        left = await wait_until_ready(idle, ready=False, within=LAG_SECONDS + SLACK_SECONDS)
        before = await reads_of(standby)
        assert await reads_of(standby) == before
        await execute(standby, "SELECT pg_wal_replay_resume()")
        back = await wait_until_ready(idle, ready=True, within=SLACK_SECONDS)
        await asyncio.gather(*load)
        assert await reads_of(standby) > before
    clients.report(record_property, left_seconds=left, back_seconds=back)
    assert clients.statuses() == {"GET 200", "POST 201"}
    assert clients.seen["own writes missed"] == 0
    assert clients.seen["seen too late"] == 0


@asynccontextmanager
async def crashed(standby: Server) -> AsyncIterator[None]:
    """Crash the standby: connections are closed, and no new ones are made."""
    await asyncio.to_thread(standby.stop, "immediate")
    yield
    await asyncio.to_thread(standby.start)


@asynccontextmanager
async def silent(standby: Server) -> AsyncIterator[None]:
    """Stop the standby's processes: connections stay open, and nobody answers."""
    pids = str(await execute(standby, "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity")).split()
    everyone = [standby.pid, *map(int, pids)]
    for pid in everyone:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    yield
    for pid in everyone:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fail", [crashed, silent])
async def test_a_standby_that_fails_is_left_out_and_taken_back(
    address: str, standby: Server, fail: Callable[[Server], AbstractAsyncContextManager[None]], record_property: Record
) -> None:
    """The primary answers the reads that the standby was about to answer."""
    clients = Clients()
    async with sessions(address, 6) as (idle, *others):
        await clients.create(idle)
        await wait_until_ready(idle, ready=True, within=AFTER_WRITE_SECONDS + SLACK_SECONDS)
        await asyncio.sleep(AFTER_WRITE_SECONDS)
        load = [asyncio.create_task(clients.read_only(client, time.monotonic() + 12)) for client in others]
        await asyncio.sleep(1)
        async with fail(standby):
            left = await wait_until_ready(idle, ready=False, within=LAG_SECONDS + SLACK_SECONDS)
            await asyncio.sleep(1)
        back = await wait_until_ready(idle, ready=True, within=SLACK_SECONDS)
        before = await reads_of(standby)
        await asyncio.gather(*load)
        assert await reads_of(standby) > before
    clients.report(record_property, left_seconds=left, back_seconds=back)
    assert clients.statuses() == {"GET 200", "POST 201"}
    assert clients.seen["seen too late"] == 0
