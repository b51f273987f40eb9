"""The real program's answers, byte by byte."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import httpx
import pytest

from tests.factories import PASSWORD, SECRET
from tests.programs import service

CANARY = b"canary-5d1e"
HOST = b"Host: localhost\r\n"
FORM = HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"
SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, free_tcp_port_factory: Callable[[], int]) -> Iterator[int]:
    """The port of the service, which runs as in production."""
    folder, number = tmp_path_factory.mktemp("service"), free_tcp_port_factory()
    with service(folder, number, ENVIRONMENT="production", SECRET_KEY=SECRET, DATABASE_URL=f"sqlite:///{folder}/db"):
        yield number


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, and return all that comes back until the connection is closed."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        with suppress(ConnectionResetError):  # it may be closed before all was read
            while part := connection.recv(65_536):
                received += part
    return received


@pytest.mark.parametrize(
    "data",
    [
        b"POST /token HTTP/1.1\r\n" + FORM + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\na=b",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Content-Length: 3, 5\r\n\r\na=b",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Content-Length: +3\r\n\r\na=b",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Content-Length: -3\r\n\r\na=b",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.0\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na=b\r\n0\r\n\r\n",
        b"POST /token HTTP/1.1\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\n3\n\na=b\r\n0\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n" + HOST + b"X-A: b\r\n continued\r\n\r\n",
    ],
    ids=[
        "length, then chunks",
        "chunks, then length",
        "two lengths",
        "list of lengths",
        "length with a sign",
        "negative length",
        "unknown coding",
        "chunked is not the last coding",
        "space before the colon",
        "chunks in HTTP/1.0",
        "endless chunk",
        "chunk without CR",
        "folded header",
    ],
)
def test_what_two_readers_may_read_differently_is_refused(port: int, data: bytes) -> None:
    """No second request is found in it, and the connection is closed, lest a proxy's next request be part of it."""
    answer = exchange(port, data + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\n" + HOST + b"X-Request-ID: a\rSet-Cookie: b=c\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/1.1\r\n" + HOST + b"X-Request-ID: a\0b\r\n\r\n", b"400"),
        (b"GET /health/live\0 HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 250_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\r\n" * 200 + b"\r\n", b"431"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"a" * 60, b"400"),
        (b"\xff\xfe\r\n\r\n", b"400"),
    ],
    ids=["CR", "NUL", "NUL in the path", "long path", "long header", "many headers", "TLS", "noise"],
)
def test_what_is_no_request_is_refused(port: int, data: bytes, status: bytes) -> None:
    """It is refused before the application sees it, and without an echo."""
    answer = exchange(port, data)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"cookie" not in answer.lower()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"TRACE /items HTTP/1.1\r\n", b"405"),
        (b"CONNECT evil.example:443 HTTP/1.1\r\n", b"405"),
        (b"GET http://evil.example/users/me HTTP/1.1\r\n", b"401"),
        (b"GET //evil.example/users/me HTTP/1.1\r\n", b"404"),
        (b"GET /\\evil.example HTTP/1.1\r\n", b"404"),
        (b"GET /health/../users/me HTTP/1.1\r\n", b"404"),
        (b"GET /health/%2e%2e/users/me HTTP/1.1\r\n", b"404"),
        (b"GET /users//me HTTP/1.1\r\n", b"404"),
        (b"OPTIONS * HTTP/1.1\r\n", b"404"),
    ],
)
def test_a_strange_target_opens_nothing_and_is_not_echoed(port: int, data: bytes, status: bytes) -> None:
    """Nobody is sent elsewhere, and TRACE doesn't repeat what it came with."""
    answer = exchange(port, data + HOST + b"Authorization: Basic evil.example\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"evil" not in answer
    assert b"location:" not in answer


def close_after(request: bytes) -> bytes:
    """Return the head of a request after which the connection is closed."""
    return request + b"Connection: close\r\n\r\n"


def test_what_a_client_says_in_its_headers_is_not_believed_and_not_repeated(port: int) -> None:
    """Host and the headers of proxies change no address, and TRACE, which repeats headers, is refused."""
    forged = b"Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n"
    metadata = exchange(port, close_after(b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\n" + forged))
    assert f'"issuer":"http://127.0.0.1:{port}"'.encode() in metadata
    assert b"evil" not in metadata
    for method in (b"TRACE", b"TRACK"):
        answer = exchange(port, close_after(method + b" /items HTTP/1.1\r\nHost: x\r\nX-Secret: " + CANARY + b"\r\n"))
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert CANARY not in answer
    split = exchange(port, close_after(b"GET /users/%0d%0aX-Injected:%20" + CANARY + b" HTTP/1.1\r\nHost: x\r\n"))
    assert split.startswith(b"HTTP/1.1 404 ")
    assert CANARY not in split


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\n", b"400"),
        (b"GET /nowhere HTTP/1.1\r\n", b"400"),
        (b"GET /health/live HTTP/1.1\r\n" + HOST + HOST, b"400"),
        (b"GET /health/live HTTP/1.0\r\n" + HOST + HOST, b"400"),
        (b"GET /health/live HTTP/1.0\r\n", b"200"),
        (b"GET /health/live HTTP/1.1\r\nX-A: b\r\nHost:\r\n", b"400"),
    ],
    ids=["none", "none, and no path", "two", "two in HTTP/1.0", "none in HTTP/1.0", "empty"],
)
def test_a_request_names_one_host(port: int, head: bytes, status: bytes) -> None:
    """RFC 9112, section 3.2: without one, a proxy may take it for another service's."""
    answer = exchange(port, close_after(head))
    assert answer.startswith((b"HTTP/1.1 " + status, b"HTTP/1.0 " + status))
    assert (b"application/problem+json" in answer) == (status == b"400")


# Bodies that are answered before they were read -----------------------------------------------------------------------

MEBIBYTE = 1024 * 1024
JSON = HOST + b"Content-Type: application/json\r\n"
EARLY = {
    "long form": (b"POST /token HTTP/1.1\r\n" + FORM, 200_000, 413),
    "long JSON": (b"POST /users/ HTTP/1.1\r\n" + JSON, 2 * MEBIBYTE, 413),
    "nobody signed in": (b"POST /items/ HTTP/1.1\r\n" + JSON, MEBIBYTE, 401),
    "another media type": (b"POST /users/ HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\n", MEBIBYTE, 415),
    "no path": (b"POST /nowhere HTTP/1.1\r\n" + JSON, MEBIBYTE, 404),
    "no method": (b"PUT /users/ HTTP/1.1\r\n" + JSON, MEBIBYTE, 405),
    "unknown parameter": (b"POST /users/?x=1 HTTP/1.1\r\n" + JSON, MEBIBYTE, 422),
    "no host": (b"POST /users/ HTTP/1.1\r\n", MEBIBYTE, 400),
    "a body that nobody wants": (b"GET /health/live HTTP/1.1\r\n" + HOST, MEBIBYTE, 200),
}


@pytest.mark.parametrize(("head", "size", "status"), EARLY.values(), ids=EARLY)
def test_the_connection_outlives_an_answer_that_comes_before_the_body_was_read(
    port: int, head: bytes, size: int, status: int
) -> None:
    """A hundred requests in a row, each of which is sent to its end before its answer is read."""
    request = head + f"Content-Length: {size}\r\n\r\n".encode() + b"a" * size
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, connection.makefile("rb") as answers:
        for _ in range(100):
            connection.sendall(request)
            assert read_answer(answers)[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 17000000\r\n\r\n" + b"a" * 17_000_000,
        b"Transfer-Encoding: chunked\r\n\r\n" + (b"FA00\r\n" + b"a" * 64_000 + b"\r\n") * 10 + b"0\r\n\r\n",
    ],
    ids=["long", "of unknown length"],
)
def test_a_connection_that_cannot_be_used_again_says_so(port: int, body: bytes) -> None:
    """The answer arrives before the connection is closed; only so many bytes more are read."""
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            with suppress(ConnectionError):  # It may be closed before all was sent.
                connection.sendall(b"POST /token HTTP/1.1\r\n" + FORM + body)
            with connection.makefile("rb") as answers:
                status, headers = read_answer(answers)
        assert (status, headers["connection"]) == (413, "close")


def read_answer(answers: BinaryIO) -> tuple[int, dict[str, str]]:
    """Read the next answer of a connection to its end; return its status and headers."""
    status = int(answers.readline().split()[1])
    headers = {}
    while line := answers.readline().decode().strip():
        name, _, value = line.partition(": ")
        headers[name] = value
    answers.read(int(headers["content-length"]))
    return status, headers


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
