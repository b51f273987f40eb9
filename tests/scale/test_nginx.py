"""nginx before two instances, as `deploy/nginx.conf` has it."""

import signal
from pathlib import Path

import httpx

from tests import servers
from tests.factories import PASSWORD, SECRET
from tests.problems import assert_problem
from tests.programs import STOP_SECONDS, free_port, service

AWAY = "The service is temporarily unavailable; try again"


def test_when_an_instance_ends_the_other_serves_on(empty_sqlite_url: str, tmp_path: Path) -> None:
    """No request is lost; and when both are gone, that is a problem detail like all others."""
    ports = free_port(), free_port()
    for port in ports:
        (tmp_path / str(port)).mkdir()
    variables = {"SECRET_KEY": SECRET, "DATABASE_URL": empty_sqlite_url, "PUBLIC_URL": "http://127.0.0.1:8000"}
    with (
        service(tmp_path / str(ports[0]), ports[0], **variables) as one,
        service(tmp_path / str(ports[1]), ports[1], **variables) as other,
        servers.nginx(*ports, in_turn=False) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        for number in range(10):
            assert register(client, number).status_code == 201
        for process, answers in ((one, {201}), (other, {503})):
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0
            assert {register(client, 100 + process.pid * 100 + number).status_code for number in range(10)} == answers
        assert_problem(client.get("/health/live"), 503, AWAY)


def test_a_body_that_is_too_large_is_refused_by_nginx() -> None:
    """With a problem detail; no instance hears of it."""
    with servers.nginx(free_port(), in_turn=False) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/users/", content=b"x" * (1024 * 1024 + 1))
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert answer.json()["instance"] == answer.headers["X-Request-ID"]
    assert answer.json()["detail"] == "The body is too large"


def register(client: httpx.Client, number: int) -> httpx.Response:
    """The answer to a registration."""
    body = {"username": f"user{number}", "email": f"user{number}@example.org", "password": PASSWORD}
    return client.post("/users/", json=body)
