"""Measure the worst that a stranger can ask of each public route, beside a login.

The inputs are as large as the server takes them, and built to be dear: what is found to cost more belongs here.
"""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from statistics import median
from typing import BinaryIO
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from benchmarks import processes, servers
from benchmarks.load import FORM, JSON, Plan
from benchmarks.passwords import PASSWORD
from benchmarks.report import Table, spread
from benchmarks.servers import Running, Server

LIMITS = {"REGISTRATIONS_PER_HOUR": "100000", "LOG_LEVEL": "WARNING"}
MEBIBYTE = 1024 * 1024
HEADERS_BYTES = 60_000
"""The bytes of a request's headers or of its query: the server takes 64 KB."""
FORM_BYTES = 16 * 1024
# A password that the estimator takes longest for, and accepts: signs that can be read as letters.
SLOW_PASSWORD = "4@8({[<69!1$5+7%2kqz"
numbers = count(1)


@dataclass(frozen=True)
class Input:
    """A request that is sent again and again; `{n}` in its body is replaced by another number each time."""

    route: str
    kind: str
    path: str = ""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """Return the bytes of the next request."""
        method, _, path = self.route.partition(" ")
        body = self.body.replace(b"{n}", str(next(numbers)).encode())
        lines = [f"{method} {self.path or path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(body)}"] if body else []
        return "\r\n".join([*lines, "", ""]).encode() + body


def form(values: Mapping[str, str]) -> bytes:
    return urlencode(values).encode()


def json(value: object) -> bytes:
    return msgspec.json.encode(value)


def typed(media_type: str) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", media_type),)


LOGIN = Input(
    "POST /token", "right password", body=form({"username": "user1", "password": PASSWORD}), headers=typed(FORM)
)
PERSON = {"username": "worst{n}", "email": "worst{n}@example.org"}
JSON_ROUTES = {
    "POST /users": PERSON,
    "POST /password-reset": {"email": "worst{n}@example.org"},
    "POST /password-reset/confirm": {"token": "a.b.c", "new_password": "x"},
    "POST /email-verification/confirm": {"token": "a.b.c"},
}
READ_ROUTES = (
    "GET /health/live",
    "GET /health/ready",
    "GET /docs",
    "GET /docs/scalar",
    "GET /openapi.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /nowhere",
    "GET /items",
)
"""The routes without a body; the last one needs a token, and shows what a stranger's request costs that has none."""
MANY = tuple((f"X-{number}", "a" * 600) for number in range(90))
HEADERS = {
    "90 headers": MANY,
    "one header of commas": (("Accept-Encoding", "," * HEADERS_BYTES), ("Accept", "*")),
    "cookies": (("Cookie", "a=b; " * (HEADERS_BYTES // 5)),),
    "X-Forwarded-For": (("X-Forwarded-For", "1.1.1.1, " * (HEADERS_BYTES // 9)),),
    "tags": (("If-None-Match", 'W/"1", ' * (HEADERS_BYTES // 7)),),
    "media types": (("Accept", "a/b;q=0.1, " * (HEADERS_BYTES // 11)),),
    "bearer token": (("Authorization", "Bearer " + "eyJhbGciOiJIUzI1NiJ9." * (HEADERS_BYTES // 21)),),
    "origin": (("Origin", "https://" + "a." * (HEADERS_BYTES // 2)),),
}
"""Headers that any route may be sent."""


def inputs(asset: str) -> Iterator[Input]:
    """Yield what a stranger may send; `asset` is the path of the docs' largest file."""
    for coding in ("identity", "gzip"):
        yield Input("GET /docs/assets", coding, path=asset, headers=(("Accept-Encoding", coding),))
    for route in READ_ROUTES:
        yield Input(route, "nothing more")
        path = route.partition(" ")[2]
        yield Input(route, "query of parameters", path=f"{path}?" + "a=1&" * (HEADERS_BYTES // 4))
        yield Input(route, "query in percent", path=f"{path}?a=" + "%41" * (HEADERS_BYTES // 3))
        for kind, headers in HEADERS.items():
            yield Input(route, kind, headers=headers)
    yield Input("GET /nowhere", "long path", path="/a" * (HEADERS_BYTES // 2))
    yield Input("GET /nowhere", "path in percent", path="/" + "%61" * (HEADERS_BYTES // 3))
    yield Input("GET /nowhere", "body of 1 MiB", body=b"a" * 1_000_000)
    for route in ("POST /token", "POST /revoke"):
        yield from forms(route)
    for route, fields in JSON_ROUTES.items():
        yield from bodies(route, fields)
    yield from credentials()


def forms(route: str) -> Iterator[Input]:
    """Yield forms as large as they may be, and larger."""
    kinds = {
        "fields": b"a=b&" * (FORM_BYTES // 4),
        "a hundred fields": b"&".join(b"a%d=%s" % (number, b"%41" * 40) for number in range(99)),
        "in percent": b"token=" + b"%C3%A4" * ((FORM_BYTES - 20) // 6),
        "too large": b"a" * 1_000_000,
    }
    for kind, body in kinds.items():
        yield Input(route, kind, body=body, headers=typed(FORM))
    long_type = (("Content-Type", f"{FORM}; a=b" + "; a=b" * (HEADERS_BYTES // 5)),)
    yield Input(route, "long media type", body=b"a=b", headers=long_type)


def bodies(route: str, fields: dict[str, str]) -> Iterator[Input]:
    """Yield JSON as large as it may be, and larger."""
    known = json(fields)[:-1]
    kinds = {
        "unknown fields": known + b"".join(b',"a%d":1' % number for number in range(80_000)) + b"}",
        "deep": b"[" * (MEBIBYTE // 2) + b"]" * (MEBIBYTE // 2),
        "numbers": known + b',"a":[' + b"1," * (MEBIBYTE // 2 - 1000) + b"1]}",
        "escapes": known + b',"a":"' + rb"\u00e4" * (MEBIBYTE // 6 - 100) + b'"}',
        "objects": b"[" + b"{}," * (MEBIBYTE // 3 - 10) + b"{}]",
        "too large": b"a" * (MEBIBYTE + 1),
    }
    for kind, body in kinds.items():
        yield Input(route, kind, body=body, headers=typed(JSON))
    for name in fields:
        long = {**fields, name: "\u0327\u0301" * 150_000}
        yield Input(route, f"long {name}", body=json(long), headers=typed(JSON))
    yield Input(route, "long media type", body=b"{}", headers=typed(JSON + "; a=b" * (HEADERS_BYTES // 5)))


def credentials() -> Iterator[Input]:
    """Yield what is all right but for what it costs."""
    marks = "a" + "\u0327\u0301" * 127
    for kind, password in {"slow password": SLOW_PASSWORD, "password of marks": marks}.items():
        yield Input("POST /users", kind, body=json(PERSON | {"password": password}), headers=typed(JSON))
    yield Input("POST /users", "weak password", body=json(PERSON | {"password": "Password1234"}), headers=typed(JSON))
    domain = ".".join(["ä" * 20] * 5) + ".example"
    odd = PERSON | {"email": f"worst{{n}}@{domain}", "password": SLOW_PASSWORD}
    yield Input("POST /users", "international domain", body=json(odd), headers=typed(JSON))
    reset = {"email": "user1@example.org"}
    yield Input("POST /password-reset", "somebody's address", body=json(reset), headers=typed(JSON))
    for token in ("eyJhbGciOiJIUzI1NiJ9." * 95, "." * 2000, "e30.e30." + "a" * 2000):
        body = json({"token": token, "new_password": SLOW_PASSWORD})
        yield Input("POST /password-reset/confirm", f"token of {token[:8]}", body=body, headers=typed(JSON))
        form_body = form({"grant_type": "refresh_token", "refresh_token": token * 7})
        yield Input("POST /token", f"refresh token of {token[:8]}", body=form_body, headers=typed(FORM))


def signed_in(token: str) -> Iterator[Input]:
    """Yield what a user may send, who has an account by a registration."""
    bearer = (("Authorization", f"Bearer {token}"),)
    tags = 'W/"1", ' * (HEADERS_BYTES // 7)
    marks = "\u0327\u0301"
    for kind, query in {
        "search of ten words": urlencode({"q": " ".join(["\U0001f302" * 19] * 10), "count": "true"}),
        "search of marks": urlencode({"q": marks * 100, "count": "true"}),
        "cursor": urlencode({"cursor": "A" * 2000}),
        "unknown parameters": "&".join(f"a{number}=1" for number in range(HEADERS_BYTES // 8)),
        "values in percent": "q=" + "%41" * (HEADERS_BYTES // 3),
    }.items():
        yield Input("GET /items", kind, path=f"/items?{query}", headers=bearer)
    yield Input("GET /items/1", "tags", headers=(*bearer, ("If-None-Match", tags)))
    yield Input("PATCH /items/1", "tags", body=b"{}", headers=(*bearer, *typed(JSON), ("If-Match", tags)))
    text = {"title": marks * 100, "description": marks * 5000}
    yield Input("POST /items", "text of marks", body=json(text), headers=(*bearer, *typed(JSON)))
    keyed = (*bearer, *typed(JSON), ("Idempotency-Key", "k" * 255))
    yield Input("POST /items", "text with a key", body=json(text), headers=keyed)
    for each in bodies("POST /items", {"title": "Umbrella", "description": "Black"}):
        yield Input(each.route, each.kind, body=each.body, headers=(*bearer, *each.headers))
    yield Input(
        "PATCH /users/me", "long name", body=json({"username": "a" * 1_000_000}), headers=(*bearer, *typed(JSON))
    )


def worst(plan: Plan) -> list[Table]:
    """Send each input on one connection, one after the other; keep the dearest of each route."""
    plan.postgres.create("worst")
    plan.postgres.add_users("worst", 1)
    server = Server("project", servers.project.command, {**servers.project.environment, **LIMITS})
    with servers.running(server, plan.postgres.url("worst")) as running:
        login = [cost(running, LOGIN, plan) for _ in range(plan.rounds)]
        strangers = [(each, *cost(running, each, plan)) for each in inputs(largest_asset(running))]
        users = [(each, *cost(running, each, plan)) for each in signed_in(running.log_in("user1"))]
        login += [cost(running, LOGIN, plan) for _ in range(plan.rounds)]
    price = median(milliseconds for _, milliseconds in login)
    first = [LOGIN.route, LOGIN.kind, "200", spread(milliseconds for _, milliseconds in login), "1.00"]
    note = (
        "The three dearest inputs of each public route: CPU of the whole server per request beside that of a login, on "
        "one connection. Of `GET /items`, which needs a token, it is what a stranger costs who has none."
    )
    header = ["route", "input", "status", "CPU ms", "logins"]
    return [
        Table("The worst of strangers", note, header, [first, *dearest(strangers, price)]),
        Table("The worst of users", "The same with a token.", header, dearest(users, price)),
    ]


def largest_asset(running: Running) -> str:
    """Return the path of Scalar's bundle."""
    page = httpx.get(f"{running.url}/docs/scalar").raise_for_status().text
    return "/" + page.partition("scalar.standalone.js")[0].rpartition("../")[2] + "scalar.standalone.js"


def dearest(taken: Sequence[tuple[Input, int, float]], price: float) -> list[list[str]]:
    """Return the lines of the three dearest inputs of each route; `price` is what a login costs."""
    rows = []
    for route in dict.fromkeys(each.route for each, _, _ in taken):
        of_route = sorted((one for one in taken if one[0].route == route), key=itemgetter(2), reverse=True)
        rows += [
            [route, each.kind, str(status), f"{milliseconds:.2f}", f"{milliseconds / price:.2f}"]
            for each, status, milliseconds in of_route[:3]
        ]
    return rows


def cost(running: Running, each: Input, plan: Plan) -> tuple[int, float]:
    """Return the status of an input, and the CPU in milliseconds that one such request costs."""
    address = urlsplit(running.url)
    with closing(socket.create_connection((address.hostname, address.port), timeout=30)) as connection:
        answers = connection.makefile("rb")
        connection.sendall(each.encode())
        status = read_answer(answers)
        sent, before, end = 0, processes.cpu_seconds(running.pid), time.monotonic() + plan.seconds / 10
        while time.monotonic() < end:
            connection.sendall(each.encode())
            read_answer(answers)
            sent += 1
        return status, (processes.cpu_seconds(running.pid) - before) / sent * 1000


def read_answer(answers: BinaryIO) -> int:
    """Read the next answer of a connection to its end, and return its status."""
    status = int(answers.readline().split()[1])
    length = 0
    while line := answers.readline().strip():
        name, _, value = line.partition(b": ")
        length = int(value) if name == b"content-length" else length
    answers.read(length)
    return status
