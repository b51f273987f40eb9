"""What no client library would send, as the real server takes it: forged, ambiguous and broken requests."""

import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.factories import PASSWORD, SECRET
from tests.programs import service

CANARY = b"canary-5d1e"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
TOKEN = b"POST /token HTTP/1.1\r\nHost: x\r\n" + FORM


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, free_tcp_port_factory: Callable[[], int]) -> Iterator[int]:
    """The port of one service for all of these tests, which runs as in production."""
    port = free_tcp_port_factory()
    with service(tmp_path_factory.mktemp("service"), port, SECRET_KEY=SECRET):
        yield port


def send(port: int, request: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while received := connection.recv(65_536):
            answer += received
    return answer


def close_after(request: bytes) -> bytes:
    """The head of a request after which the connection is closed."""
    return request + b"Connection: close\r\n\r\n"


def test_requests_are_taken_in_one_way_or_not_at_all(port: int) -> None:
    """Two lengths, a name or value with control characters: a proxy in front might read another request in them."""
    for request in (
        close_after(TOKEN + b"Content-Length: 4\r\nContent-Length: 5\r\n") + b"abcde",
        close_after(TOKEN + b"Content-Length: -1\r\n"),
        close_after(TOKEN + b"Transfer-Encoding: xchunked\r\n") + b"0\r\n\r\n",
        close_after(HEALTH + b"X-Other : a\r\n"),
        close_after(HEALTH + b"X-Other: a\r\n b\r\n"),
        close_after(HEALTH + b"X-Other: a\0b\r\n"),
        close_after(HEALTH + b"X-Request-ID: a\rX-Injected: b\r\n"),
    ):
        assert send(port, request).startswith(b"HTTP/1.1 400 "), request
    assert send(port, close_after(HEALTH + b"X-Other: " + b"a" * 1_000_000 + b"\r\n")).startswith(b"HTTP/1.1 431 ")
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200


def test_no_second_request_is_smuggled_in_the_body_of_the_first(port: int) -> None:
    """With a length and chunks the chunks count (RFC 9112, section 6.3), and what follows them is not served."""
    both = TOKEN + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = send(port, both + close_after(HEALTH))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"username is required" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_what_a_client_says_in_its_headers_is_not_believed_and_not_repeated(port: int) -> None:
    """Neither its Host nor who forwards for whom; TRACE, which repeats headers, is refused."""
    forged = b"Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n"
    metadata = send(port, close_after(b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\n" + forged))
    assert f'"issuer":"http://127.0.0.1:{port}"'.encode() in metadata
    assert b"evil" not in metadata
    for method in (b"TRACE", b"TRACK"):
        answer = send(port, close_after(method + b" /items HTTP/1.1\r\nHost: x\r\nX-Secret: " + CANARY + b"\r\n"))
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert CANARY not in answer
    split = send(port, close_after(b"GET /users/%0d%0aX-Injected:%20" + CANARY + b" HTTP/1.1\r\nHost: x\r\n"))
    assert split.startswith(b"HTTP/1.1 404 ")
    assert CANARY not in split


def test_without_trusted_proxies_the_peer_is_the_client_to_the_server_too(port: int) -> None:
    """Some servers believe X-Forwarded-For from their own machine unless they are told not to."""
    url = f"http://127.0.0.1:{port}"
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
    httpx.post(f"{url}/users/", json=body, headers=forged)
    login = httpx.post(f"{url}/token", data={"username": "alice", "password": PASSWORD}, headers=forged)
    bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
    (session,) = httpx.get(f"{url}/users/me/sessions", headers=bearer | forged).json()
    assert session["address"] == "127.0.0.1"
