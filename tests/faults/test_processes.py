"""Processes that are told to stop, or are killed, under load."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.faults.load import (
    HUNG_UP,
    LOGIN,
    PRODUCTION,
    REFUSED,
    Load,
    load,
    once,
    request,
    seconds_until,
    sign_in,
    workers,
)
from tests.faults.production import Record
from tests.programs import STOP_SECONDS, service

pytestmark = pytest.mark.faults

TWO = PRODUCTION | {"WORKERS": "2"}
BACK_WITHIN_SECONDS = 5
LIVE = request("GET", "/health/live")


def logged(folder: Path) -> set[str]:
    """Return the ids of the requests that the log says were answered."""
    lines = [json.loads(line) for line in (folder / "out").read_text().splitlines() if line.startswith("{")]
    return {line["request_id"] for line in lines if line["event"] == "request" and line["status"]}


async def test_sigterm_under_load_drops_no_request(
    postgresql_url: str, tmp_path: Path, free_tcp_port: int, record_property: Record
) -> None:
    """Requests that a worker has begun are answered, logins that wait for their hash too; later ones are refused."""
    with service(tmp_path, free_tcp_port, DATABASE_URL=postgresql_url, **TWO) as process:
        token = await sign_in(free_tcp_port)
        async with load(free_tcp_port, "GET", "/users/me", clients=8, Authorization=token) as reads:
            logins = [asyncio.create_task(once(free_tcp_port, LOGIN)) for _ in range(32)]
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            seconds = await seconds_until(lambda: process.poll() is not None)
        outcomes = await asyncio.gather(*logins)
    assert process.returncode == 0
    assert seconds < STOP_SECONDS
    assert_answered_or_never_begun(reads, tmp_path)
    assert set(outcomes) == {200}
    record_property("answered", reads.statuses[200] + len(outcomes))
    record_property("begun and dropped", 0)
    record_property("stopped after s", seconds)


async def test_only_the_requests_of_a_killed_worker_fail(
    postgresql_url: str, tmp_path: Path, free_tcp_port: int, record_property: Record
) -> None:
    """Those that it was answering fail; another worker takes its place, and the service still stops when told to."""
    with service(tmp_path, free_tcp_port, DATABASE_URL=postgresql_url, **TWO) as process:
        token = await sign_in(free_tcp_port)
        killed = workers(process.pid)[0]
        async with load(free_tcp_port, "GET", "/users/me", clients=8, Authorization=token) as result:
            await asyncio.sleep(1)
            os.kill(killed, signal.SIGKILL)
            back = await seconds_until(lambda: len(set(workers(process.pid)) - {killed}) == 2)
            await asyncio.sleep(BACK_WITHIN_SECONDS - back)
            failures = len(result.ids(REFUSED, HUNG_UP))
            await asyncio.sleep(1)
        process.send_signal(signal.SIGTERM)
        seconds = await seconds_until(lambda: process.poll() is not None)
    assert set(result.statuses) <= {200, HUNG_UP}
    assert result.statuses[HUNG_UP] == failures <= 8
    assert process.returncode == 0
    assert seconds < STOP_SECONDS
    record_property("answered", result.statuses[200])
    record_property("failed", failures)
    record_property("replaced after s", back)
    record_property("stopped after s", seconds)


@pytest.mark.parametrize("delay", [0, 0.1, 0.5])
async def test_a_service_stops_while_a_killed_worker_is_being_replaced(
    sqlite_url: str, tmp_path: Path, free_tcp_port: int, delay: float, record_property: Record
) -> None:
    """The new worker may not handle signals yet."""
    with service(tmp_path, free_tcp_port, DATABASE_URL=sqlite_url, **TWO) as process:
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        await asyncio.sleep(delay)
        process.send_signal(signal.SIGTERM)
        seconds = await seconds_until(lambda: process.poll() is not None)
    assert seconds < STOP_SECONDS
    record_property("stopped after s", seconds)


async def test_workers_end_when_their_parent_is_killed(
    sqlite_url: str, tmp_path: Path, free_tcp_port: int, record_property: Record
) -> None:
    """Otherwise nobody would stop them, and a service that is started again would share its port with them."""
    with service(tmp_path, free_tcp_port, DATABASE_URL=sqlite_url, **TWO) as process:
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        await seconds_until(lambda: len(workers(process.pid)) == 2)
        orphans = workers(process.pid)
        async with load(free_tcp_port, "GET", "/health/live") as result:
            await asyncio.sleep(1)
            process.kill()
            seconds = await seconds_until(lambda: not any(is_running(pid) for pid in orphans))
        assert await once(free_tcp_port, LIVE) == REFUSED
    assert seconds < BACK_WITHIN_SECONDS
    assert_answered_or_never_begun(result, tmp_path)
    record_property("ended after s", seconds)


def is_running(pid: int) -> bool:
    """Return whether a process is there and isn't a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def assert_answered_or_never_begun(result: Load, folder: Path) -> None:
    """Assert that every request without an answer was one that no worker had taken."""
    assert set(result.statuses) <= {200, REFUSED, HUNG_UP}
    answered = logged(folder)
    assert result.ids(200)
    assert result.ids(200) <= answered
    assert not result.ids(REFUSED, HUNG_UP) & answered
