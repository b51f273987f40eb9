"""An instance that stops says first that it isn't ready, and ends later."""

import signal
import time
from pathlib import Path

import httpx

from tests.problems import assert_problem
from tests.programs import STOP_SECONDS, service
from tests.scale.users import new_user

DRAIN_SECONDS = 3


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
        for number in range(10):  # connections of their own, which either worker may get
            assert ready(url).status_code == 503
            assert httpx.get(f"{url}/health/live").status_code == 200
            assert new_user(url, number).status_code == 201
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
