"""An instance that stops says first that it isn't ready, and ends later."""

import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.factories import PASSWORD
from tests.problems import assert_problem
from tests.programs import STOP_SECONDS, service

pytestmark = pytest.mark.slow

DRAIN_SECONDS = 5


def ready(url: str) -> httpx.Response:
    """Ask an instance whether it is ready; return its answer."""
    return httpx.get(f"{url}/health/ready")


def wait_until_draining(url: str) -> httpx.Response:
    """Ask until the instance says that it isn't ready; return that answer."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while (answer := ready(url)).status_code == 200:
        assert time.monotonic() < deadline
    return answer


def test_an_instance_that_stops_serves_until_others_have_noticed(tmp_path: Path, free_tcp_port: int) -> None:
    """No worker is ready, and all of them serve everything, until the program ends."""
    url = f"http://127.0.0.1:{free_tcp_port}"
    with service(tmp_path, free_tcp_port, DRAIN_SECONDS=str(DRAIN_SECONDS), WORKERS="2") as process:
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        assert_problem(wait_until_draining(url), 503, "The service is about to stop")
        # Each request has a connection of its own, which either worker may get.
        with httpx.Client(base_url=url, headers={"Connection": "close"}) as client:
            for name in ("alice", "bob", "carol"):
                account = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
                assert client.get("/health/ready").status_code == 503
                assert client.get("/health/live").status_code == 200
                assert client.post("/users/", json=account).status_code == 201
        assert process.wait(DRAIN_SECONDS + STOP_SECONDS) == 0
        assert time.monotonic() - sent >= DRAIN_SECONDS
    assert "Traceback" not in (tmp_path / "out").read_text()


def test_a_second_signal_stops_at_once(tmp_path: Path, free_tcp_port: int) -> None:
    with service(tmp_path, free_tcp_port, DRAIN_SECONDS="3600") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0


def test_an_interrupt_stops_at_once(tmp_path: Path, free_tcp_port: int) -> None:
    """It is Ctrl-C, which people press."""
    with service(tmp_path, free_tcp_port, DRAIN_SECONDS="3600") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
