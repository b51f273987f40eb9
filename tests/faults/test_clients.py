"""Clients that hang up, are slow or stay silent."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import asyncpg
import pytest

from app.http.docs.pages import ASSETS, assets_version
from app.operations.connections import allow_files
from tests.faults.load import (
    FORM,
    HUNG_UP,
    JSON,
    LOGIN,
    OTHERS_WITHIN_MS,
    PRODUCTION,
    Connection,
    gauges,
    load,
    once,
    open_files,
    peak_mb,
    request,
    resident_mb,
    seconds_until,
    sign_in,
    workers,
)
from tests.faults.production import Record
from tests.programs import service

pytestmark = pytest.mark.faults

CLOSED_WITHIN_SECONDS = 30
MORE_MB = 64
"""The most memory that these clients may cost."""


async def test_a_thousand_clients_that_hang_up_leave_nothing_behind(
    database_url: str,
    server: asyncpg.Connection,
    tmp_path: Path,
    free_tcp_port: int,
    record_property: Record,
) -> None:
    """They do so after their headers, in their body and before their answer; twice, so that a leak is seen to grow."""
    with service(tmp_path, free_tcp_port, DATABASE_URL=database_url, **PRODUCTION) as process:
        signed_in = {"Authorization": await sign_in(free_tcp_port)}
        item = request("POST", "/items/", JSON | signed_in, b'{"title": "Umbrella"}')
        requests = [
            item.partition(b"{")[0],
            item[:-5],
            item,
            request("GET", "/items/", signed_in),
            request("GET", "/users/me", signed_in),
        ]
        memory = []
        for _ in range(2):
            await asyncio.gather(*[hang_up(free_tcp_port, requests[number % 5]) for number in range(990)])
            await asyncio.gather(*[hang_up(free_tcp_port, LOGIN) for _ in range(10)])
            await wait_until_idle(free_tcp_port)
            memory.append(resident_mb(workers(process.pid)[0]))
        assert await once(free_tcp_port, request("GET", "/users/me", signed_in)) == 200
        busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backend-api' AND state <> 'idle'"
        assert await server.fetchval(busy) == 0
    assert memory[1] - memory[0] < MORE_MB // 2
    out = (tmp_path / "out").read_text()
    assert "Traceback" not in out
    assert '"status":500' not in out
    record_property("hung up", 2000)
    record_property("MB after 1,000 and 2,000", tuple(memory))


async def hang_up(port: int, data: bytes) -> None:
    """Send something and reset the connection some time later, whatever the service does with it at that moment."""
    async with Connection.to(port) as connection:
        await connection.send(data)
        await asyncio.sleep(hash(connection) % 50 / 1000)


async def wait_until_idle(port: int) -> None:
    """Wait until no request, connection or hash is at work any more; fail when one stays."""
    deadline = monotonic() + CLOSED_WITHIN_SECONDS
    while True:
        now = await gauges(port)
        # The one request is the one that asks.
        if (now["http_requests_in_flight"], now["db_pool_in_use"], now["password_hashes_pending"]) == (1, 0, 0):
            return
        assert monotonic() < deadline, now
        await asyncio.sleep(0.1)


SLOW = {
    "body": (request("POST", "/users/", JSON | {"Content-Length": "5000"}), b" "),
    "form": (request("POST", "/token", FORM | {"Content-Length": "5000"}), b"a"),
    "chunked": (request("POST", "/users/", JSON | {"Transfer-Encoding": "chunked"}), b"1\r\n \r\n"),
    "headers": (b"GET /users/me HTTP/1.1\r\n", b"X: y\r\n"),
    "silent": (b"", b""),
    "idle": (request("GET", "/health/live"), b""),
}


async def test_slow_and_silent_clients_are_closed_and_slow_nobody_down(
    postgresql_url: str, tmp_path: Path, free_tcp_port: int, record_property: Record
) -> None:
    """Of 600 at once some send bodies or headers byte by byte, some nothing, and some nothing after a request."""
    with service(tmp_path, free_tcp_port, DATABASE_URL=postgresql_url, **PRODUCTION) as process:
        token = await sign_in(free_tcp_port)
        (worker,) = workers(process.pid)
        before = resident_mb(worker)
        async with load(free_tcp_port, "GET", "/users/me", pause=0.02, Authorization=token) as others:
            kinds = [kind for kind in SLOW for _ in range(100)]
            ends = await asyncio.gather(*[send_slowly(free_tcp_port, *SLOW[kind]) for kind in kinds])
        more = resident_mb(worker) - before
        await wait_until_idle(free_tcp_port)
    for kind in SLOW:
        statuses = {status for one, (status, _) in zip(kinds, ends, strict=True) if one == kind}
        expected = {"headers": {HUNG_UP}, "silent": {HUNG_UP}, "idle": {200}}
        assert statuses == expected.get(kind, {408}), kind
    assert max(seconds for _, seconds in ends) < CLOSED_WITHIN_SECONDS
    assert set(others.statuses) == {200}
    assert others.p99_ms < OTHERS_WITHIN_MS
    assert more < MORE_MB
    record_property("longest s", round(max(seconds for _, seconds in ends), 1))
    record_property("others' p99 ms", others.p99_ms)
    record_property("more MB", more)


async def test_half_open_connections_leave_room_for_others(
    tmp_path: Path, free_tcp_port: int, record_property: Record
) -> None:
    """Of 2,000 at once, none sends the end of its headers."""
    allow_files(8192)
    with service(tmp_path, free_tcp_port, DATABASE_URL=f"sqlite:///{tmp_path}/db", **PRODUCTION) as process:
        (worker,) = workers(process.pid)
        before = resident_mb(worker)
        async with AsyncExitStack() as stack:
            await open_halfway(stack, free_tcp_port, 2000)
            assert await once(free_tcp_port, request("GET", "/health/live")) == 200
            assert open_files(worker) > 2000
            more = resident_mb(worker) - before
        await wait_until_idle(free_tcp_port)
    assert more < MORE_MB * 2
    record_property("more MB", more)


async def test_connections_over_the_bound_cost_the_newest(
    tmp_path: Path, free_tcp_port: int, record_property: Record
) -> None:
    """Who was there before is served on; a new one waits until half-open ones are closed."""
    variables = PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/db", "MAX_CONNECTIONS": "256"}
    with service(tmp_path, free_tcp_port, **variables):
        async with AsyncExitStack() as stack, Connection.to(free_tcp_port) as kept:
            await kept.send(request("GET", "/health/live"))
            assert await kept.status() == 200
            await open_halfway(stack, free_tcp_port, 400)
            newest = asyncio.create_task(once(free_tcp_port, request("GET", "/health/live")))
            for _ in range(100):
                await kept.send(request("GET", "/health/live"))
                assert await kept.status() == 200
            started = monotonic()
            assert await newest == 200
    record_property("the newest waited s", round(monotonic() - started, 1))


async def open_halfway(stack: AsyncExitStack, port: int, count: int) -> None:
    """Open connections that begin a request, until the stack is closed."""
    for _ in range(count):
        connection = await stack.enter_async_context(Connection.to(port))
        await connection.send(b"GET /health/live HTTP/1.1\r\n")


READERS = 300
READERS_MORE_MB = 256
"""The most memory that so many clients may cost who ask for the largest file, of 5 MB."""


async def test_an_answer_that_nobody_takes_is_given_up(
    tmp_path: Path, free_tcp_port: int, record_property: Record
) -> None:
    """Many ask for the largest file and read nothing; one reads it slowly and steadily, to the end."""
    name = max(ASSETS, key=lambda asset: ASSETS[asset].stat().st_size)
    asset = request("GET", f"/docs/assets/{assets_version()}/{name}")
    received = bytearray()
    with service(tmp_path, free_tcp_port, DATABASE_URL=f"sqlite:///{tmp_path}/db", **PRODUCTION) as process:
        (worker,) = workers(process.pid)
        assert await once(free_tcp_port, asset) == 200
        before, quiet = resident_mb(worker), open_files(worker)
        async with AsyncExitStack() as stack:
            slow, *others = [await stack.enter_async_context(Connection.to(free_tcp_port)) for _ in range(READERS + 1)]
            for connection in (slow, *others):
                await connection.send(asset)
            reading = asyncio.create_task(read_slowly(slow.reader, received))
            await seconds_until(lambda: open_files(worker) > quiet + READERS - 10)
            seconds = await seconds_until(lambda: open_files(worker) < quiet + 10)
            reading.cancel()
            _, _, body = received.partition(b"\r\n\r\n")
            body += await slow.reader.readexactly(ASSETS[name].stat().st_size - len(body))
        more = peak_mb(worker) - before
    assert bytes(body) == ASSETS[name].read_bytes()
    assert more < READERS_MORE_MB
    record_property("given up after s", seconds)
    record_property("more MB", more)


async def read_slowly(reader: asyncio.StreamReader, received: bytearray) -> None:
    """Read some 20 KB a second."""
    while True:
        received += await reader.read(10_000)
        await asyncio.sleep(0.5)


async def send_slowly(port: int, start: bytes, piece: bytes) -> tuple[int, float]:
    """Begin a request and go on slowly; return the status and the seconds until the connection was closed."""
    started = monotonic()
    status = HUNG_UP
    async with Connection.to(port) as connection:
        sending = asyncio.create_task(send_pieces(connection, start, piece))
        try:
            status = await connection.status()
            await connection.reader.read()  # until it is closed
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            sending.cancel()
    return status, monotonic() - started


async def send_pieces(connection: Connection, start: bytes, piece: bytes) -> None:
    """Send the start, then a piece each second until the connection is closed."""
    try:
        await connection.send(start)
        while piece:
            await asyncio.sleep(1)
            await connection.send(piece)
    except OSError:
        return
