"""A small load generator: it sends raw HTTP/1.1 over connections of its own, and records how each request ended."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from time import monotonic, perf_counter
from typing import Self

from httpx import AsyncClient

from tests.factories import PASSWORD, SECRET, log_in, register

PRODUCTION = {"ENVIRONMENT": "production", "SECRET_KEY": SECRET, "METRICS": "true"}
REFUSED, HUNG_UP = 0, -1
"""Stand in the place of a status where no connection was made, and where one ended without an answer."""
ANSWER_WITHIN_SECONDS = 60
OTHERS_WITHIN_MS = 100
"""The longest that 99 of 100 requests may take of clients who do nothing wrong."""


@dataclass
class Load:
    """The outcomes of requests: the status of each, the seconds that it took, and the id that it was sent with."""

    outcomes: list[tuple[int, float, str]] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        """The number of answers with each status, REFUSED and HUNG_UP among them."""
        return Counter(status for status, _, _ in self.outcomes)

    def ids(self, *statuses: int) -> set[str]:
        """Return the ids of the requests that ended with one of these."""
        return {request_id for status, _, request_id in self.outcomes if status in statuses}

    @property
    def p99_ms(self) -> float:
        """The longest that 99 of 100 requests took."""
        return round(quantiles([seconds * 1000 for _, seconds, _ in self.outcomes], n=100)[98], 1)


class Connection:
    """One connection, at the client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Self]:
        """Open a connection, and reset it at the end of the block, with all that is still on its way."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        """Return the status of the next answer, read to its end. Raise IncompleteReadError, OSError, TimeoutError."""
        status, _ = await self.answer()
        return status

    async def answer(self) -> tuple[int, bytes]:
        """Return the next answer's status and body. Raise IncompleteReadError, OSError and TimeoutError."""
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
            body = await self.reader.readexactly(int(fields.get(b"content-length", 0)))
        return int(head.split(b" ", 2)[1]), body


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    fields = {"Host": "localhost"} | ({"Content-Length": str(len(body))} if body else {}) | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LOGIN = request("POST", "/token", FORM, f"username=alice&password={PASSWORD.replace(' ', '+')}".encode())
"""A login of alice with the right password."""


async def once(port: int, data: bytes) -> int:
    """Send a request over a connection of its own; return its status, REFUSED or HUNG_UP."""
    try:
        async with Connection.to(port) as connection:
            try:
                await connection.send(data)
                return await connection.status()
            except (asyncio.IncompleteReadError, OSError):
                return HUNG_UP
    except OSError:
        return REFUSED


@asynccontextmanager
async def load(
    port: int, method: str, path: str, *, clients: int = 1, pause: float = 0, **headers: str
) -> AsyncIterator[Load]:
    """Let so many clients ask while the block runs, each time over a new connection and with an id of its own."""
    result = Load()
    running = True

    async def ask(client: int) -> None:
        number = 0
        while running:
            number += 1
            request_id = f"load-{client}-{number}"
            started = perf_counter()
            status = await once(port, request(method, path, headers | {"X-Request-ID": request_id}))
            result.outcomes.append((status, perf_counter() - started, request_id))
            await asyncio.sleep(pause if status > 0 else 0.05)

    async with asyncio.TaskGroup() as group:
        for client in range(clients):
            group.create_task(ask(client))
        try:
            yield result
        finally:
            running = False


def resident_mb(pid: int) -> int:
    """Return the memory that a process has in use, in MB."""
    return memory_mb(pid, "VmRSS")


def peak_mb(pid: int) -> int:
    """Return the most memory that a process has had in use, in MB."""
    return memory_mb(pid, "VmHWM")


def memory_mb(pid: int, line: str) -> int:
    """Return one of the figures that the system keeps of a process's memory, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) // 1024


def open_files(pid: int) -> int:
    """Return how many files and connections a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def workers(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def sign_in(port: int, username: str = "alice") -> str:
    """Register a user; return their Authorization header."""
    async with AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await register(client, username)).status_code == 201
        return f"Bearer {(await log_in(client, username)).json()['access_token']}"


async def gauges(port: int) -> dict[str, float]:
    """Return the service's metrics that have no labels."""
    async with Connection.to(port) as connection:
        await connection.send(request("GET", "/metrics"))
        _, body = await connection.answer()
    lines = [line.split() for line in body.decode().splitlines() if line[:1] != "#" and "{" not in line]
    return {name: float(value) for name, value in lines}


async def seconds_until(condition: Callable[[], bool]) -> float:
    """Return how long it takes from now until a condition is true; fail after a minute."""
    started = monotonic()
    while not condition():
        assert monotonic() < started + 60
        await asyncio.sleep(0.02)
    return round(monotonic() - started, 2)
