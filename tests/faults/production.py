"""Runs the program as in production, and clients of it."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic
from typing import Self

import asyncpg
from httpx import AsyncClient, Limits, Response

from tests.factories import PASSWORD, SECRET, log_in, register
from tests.programs import free_port, service

Record = Callable[[str, object], None]
"""The type of the fixture `record_property`, which keeps a figure to be shown."""
ANSWER_WITHIN_SECONDS = 5
"""The longest that a client waits, whatever the database does."""


@contextmanager
def production(folder: Path, database_url: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the service as in production; give its address and its process."""
    port = free_port()
    settings = {"ENVIRONMENT": "production", "SECRET_KEY": SECRET, "DATABASE_URL": database_url, "LOG_LEVEL": "WARNING"}
    folder.mkdir(exist_ok=True)
    with service(folder, port, **(settings | variables)) as process:
        yield f"http://127.0.0.1:{port}", process


@asynccontextmanager
async def signed_in(url: str, username: str = "alice") -> AsyncIterator[AsyncClient]:
    """Open a client with an account of its own, which waits longer for an answer than the service may take."""
    limits = Limits(max_connections=100, max_keepalive_connections=100)
    async with AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        assert (await register(client, username)).status_code == 201
        token = (await log_in(client, username, password=PASSWORD)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


class Writers:
    """Clients that create one item after the other, and accept no answer but 201 and 503."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.acknowledged: set[int] = set()
        self.answers: Counter[int] = Counter()
        self.served = asyncio.Event()
        self.stopping = False

    @classmethod
    @asynccontextmanager
    async def at_work(cls, client: AsyncClient, count: int) -> AsyncIterator[Self]:
        """Run so many clients beside the block; each second one's items take a transaction of two statements."""
        writers = cls(client)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(writers.write(number))
            try:
                yield writers
            finally:
                writers.stopping = True

    async def write(self, number: int) -> None:
        """Create items until the block has ended."""
        for serial in range(1_000_000):
            headers = {"Idempotency-Key": f"{number}-{serial}"} if number % 2 else {}
            self.note(await self.client.post("/items/", json={"title": f"{number}-{serial}"}, headers=headers))
            if self.stopping:
                return
            await asyncio.sleep(0.02)

    def note(self, answer: Response) -> None:
        """Count an answer, and keep the id of an item that was acknowledged."""
        assert_available_or_503(answer)
        self.answers[answer.status_code] += 1
        if answer.status_code == 201:
            self.acknowledged.add(answer.json()["id"])
            self.served.set()

    async def seconds_until_served(self) -> float:
        """Return how long it takes from now until an item is created."""
        started = monotonic()
        self.served.clear()
        await self.served.wait()
        return monotonic() - started


def assert_available_or_503(answer: Response) -> None:
    """Assert that an answer is a success, or a 503 that says when to try again."""
    assert answer.is_success or answer.status_code == 503, answer.text
    assert ("Retry-After" in answer.headers) == (answer.status_code == 503)


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection to PostgreSQL that isn't the service's."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def execute(database_url: str, statements: str) -> None:
    """Send statements to PostgreSQL, in one transaction."""
    async with connected(database_url) as connection:
        await connection.execute(statements)


async def item_ids(database_url: str) -> set[int]:
    """Return the ids of the items that PostgreSQL has."""
    async with connected(database_url) as connection:
        return {row["id"] for row in await connection.fetch("SELECT id FROM items")}
