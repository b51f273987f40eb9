"""Stopping: first the instance says that it isn't ready, then it ends."""

import signal
import time
from pathlib import Path

import httpx

from tests.factories import PASSWORD
from tests.problems import assert_problem
from tests.programs import STOP_SECONDS, free_port, service

DRAIN_SECONDS = 3


def ready(url: str) -> httpx.Response:
    """Whether it says that it is ready."""
    return httpx.get(f"{url}/health/ready")


def wait_until_draining(url: str) -> httpx.Response:
    """The first answer that isn't 200."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while (answer := ready(url)).status_code == 200:
        assert time.monotonic() < deadline
    return answer


def test_whoever_stops_serves_until_others_have_noticed(tmp_path: Path) -> None:
    """All workers say 503 and serve everything, and then the program ends as it should."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with service(tmp_path, port, DRAIN_SECONDS=str(DRAIN_SECONDS), WORKERS="2") as process:
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        assert_problem(wait_until_draining(url), 503, "The service is about to stop")
        for number in range(10):  # connections of their own, which either worker may get
            assert ready(url).status_code == 503
            assert httpx.get(f"{url}/health/live").status_code == 200
            body = {"username": f"user{number}", "email": f"user{number}@example.org", "password": PASSWORD}
            assert httpx.post(f"{url}/users/", json=body).status_code == 201
        assert process.wait(DRAIN_SECONDS + STOP_SECONDS) == 0
        assert time.monotonic() - sent >= DRAIN_SECONDS
    assert "Traceback" not in (tmp_path / "out").read_text()


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """Whoever sends it doesn't want to wait for an hour."""
    port = free_port()
    with service(tmp_path, port, DRAIN_SECONDS="3600") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0


def test_an_interrupt_stops_at_once(tmp_path: Path) -> None:
    """Ctrl-C is pressed by people."""
    port = free_port()
    with service(tmp_path, port, DRAIN_SECONDS="3600") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
