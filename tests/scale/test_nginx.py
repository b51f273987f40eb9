"""nginx before two instances, as `deploy/nginx.conf` has it."""

import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests import servers
from tests.factories import PASSWORD, SECRET
from tests.problems import assert_problem
from tests.programs import STOP_SECONDS, free_port, service
from tests.scale.users import new_user

MEBIBYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ORIGIN = "https://app.example.org"
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


EARLY = {
    "long form": ("POST", "/token", FORM, 200_000, 413),
    "nobody signed in": ("POST", "/items/", JSON, MEBIBYTE, 401),
    "another media type": ("POST", "/users/", {"Content-Type": "text/plain"}, MEBIBYTE, 415),
    "no path": ("POST", "/nowhere", JSON, MEBIBYTE, 404),
    "no method": ("PUT", "/users/", JSON, MEBIBYTE, 405),
    "unknown parameter": ("POST", "/users/?x=1", JSON, MEBIBYTE, 422),
}


@pytest.fixture(scope="module")
def entrance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of nginx before one instance, as on a public host with a page of another origin."""
    folder, port = tmp_path_factory.mktemp("service"), free_port()
    variables = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": f"sqlite:///{folder}/db",
        "PUBLIC_URL": "https://api.example.org/some/path",
        "CORS_ORIGINS": ORIGIN,
        "METRICS": "true",
    }
    with service(folder, port, **variables), servers.nginx(port, in_turn=False) as outside:
        yield f"http://127.0.0.1:{outside}"


@pytest.mark.parametrize(("method", "path", "headers", "size", "status"), EARLY.values(), ids=EARLY)
def test_what_is_refused_before_it_was_read_is_answered(
    entrance: str, method: str, path: str, headers: Mapping[str, str], size: int, status: int
) -> None:
    """A hundred in a row: nginx takes a connection that is closed meanwhile for an instance that is away."""
    with httpx.Client(base_url=entrance, timeout=30) as client:
        answers = [client.request(method, path, headers=headers, content=b"a" * size) for _ in range(100)]
    assert Counter(answer.status_code for answer in answers) == {status: 100}


def test_the_link_of_a_long_search_passes(entrance: str) -> None:
    """With the headers of https and of pages of other origins, the answer's head is larger than nginx's default."""
    with httpx.Client(base_url=entrance, headers={"Origin": ORIGIN}, timeout=30) as client:
        assert new_user(entrance, 1).status_code == 201
        login = client.post("/token", data={"username": "user1", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        title = "\U0001f302" * 200
        for _ in range(2):
            assert client.post("/items/", json={"title": title}).status_code == 201
        answer = client.get("/items/", params={"limit": 1, "sort": "title", "q": title})
        assert answer.status_code == 200
        link = answer.links["next"]["url"].removeprefix("/some/path")
        assert sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) > 4096
        assert [item["title"] for item in client.get(link).json()] == [title]


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6Detrics", "/metrics%2F", "/x/../metrics"])
def test_the_metrics_stay_inside(entrance: str, path: str) -> None:
    """However the path is written."""
    with socket.create_connection(("127.0.0.1", int(entrance.rpartition(":")[2])), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"application/problem+json" in answer


def test_a_body_that_is_too_large_is_refused_by_nginx_itself() -> None:
    """There is no instance behind it here."""
    with servers.nginx(free_port(), in_turn=False) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/users/", content=b"x" * (1024 * 1024 + 1))
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert answer.json()["instance"] == answer.headers["X-Request-ID"]
    assert answer.json()["detail"] == "The body is too large"
