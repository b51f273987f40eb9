"""nginx before two instances, as `deploy/nginx.conf` has it."""

import signal
from pathlib import Path

import httpx

from tests import servers
from tests.factories import SECRET
from tests.problems import assert_problem
from tests.programs import STOP_SECONDS, free_port, service
from tests.scale.users import new_user

AWAY = "The service is temporarily unavailable; try again"


def test_when_an_instance_ends_the_other_serves_on(empty_sqlite_url: str, tmp_path: Path) -> None:
    """No request is lost, and when both are gone, nginx answers with a problem detail."""
    ports = free_port(), free_port()
    for port in ports:
        (tmp_path / str(port)).mkdir()
    variables = {"SECRET_KEY": SECRET, "DATABASE_URL": empty_sqlite_url, "PUBLIC_URL": "http://127.0.0.1:8000"}
    with (
        service(tmp_path / str(ports[0]), ports[0], **variables) as one,
        service(tmp_path / str(ports[1]), ports[1], **variables) as other,
        servers.nginx(*ports, in_turn=False) as port,
    ):
        url = f"http://127.0.0.1:{port}"
        for number in range(10):
            assert new_user(url, number).status_code == 201
        for process, answers in ((one, {201}), (other, {503})):
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0
            assert {new_user(url, 100 + process.pid * 100 + number).status_code for number in range(10)} == answers
        assert_problem(httpx.get(f"{url}/health/live"), 503, AWAY)


def test_a_body_that_is_too_large_is_refused_by_nginx_itself() -> None:
    """There is no instance behind it here."""
    with servers.nginx(free_port(), in_turn=False) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/users/", content=b"x" * (1024 * 1024 + 1))
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert answer.json()["instance"] == answer.headers["X-Request-ID"]
    assert answer.json()["detail"] == "The body is too large"
