"""The log: what is written to it, and what never is."""

import errno
import io
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import structlog
from typing_extensions import Buffer

from app import logs
from app.items.service import ItemService
from app.main import create_app
from app.settings import Settings
from tests.factories import SECRET, People, connect_to, create_item, log_in, on_sqlite, parts_of, register, token_of
from tests.problems import assert_problem

CANARY = "canary-3b9f-Qz7xT2"
Line = dict[str, object]


class Lines:
    """The lines that an application logs in production, since they were last read."""

    def __init__(self, capsys: pytest.CaptureFixture[str], settings: Settings) -> None:
        self.capsys = capsys
        self.settings = settings
        self.text = ""

    @asynccontextmanager
    async def served(self, **changes: str) -> AsyncIterator[People]:
        """Run an application, which is made here, since a test has another standard output than its fixtures."""
        app = create_app(msgspec.structs.replace(self.settings, **({"environment": "production"} | changes)))
        async with connect_to(app) as client:
            yield People(app, client)

    def read(self) -> list[Line]:
        """Return the lines, each of which is one JSON object."""
        self.text = self.capsys.readouterr().out
        return [json.loads(line) for line in self.text.split("\n") if line]

    def requests(self) -> list[Line]:
        """Return the access lines among them."""
        return [line for line in self.read() if line["event"] == "request"]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], settings: Settings) -> Lines:
    """The lines that an application logs."""
    return Lines(capsys, settings)


def fail(*_: object, **__: object) -> None:
    """Fail with a bug that has something secret in a local variable."""
    secret = CANARY
    raise ZeroDivisionError(len(secret))


async def test_each_request_is_one_line(lines: Lines) -> None:
    """It has the route's template, the status, the user's id, the time it took and the request's id."""
    async with lines.served() as people:
        alice = await people.sign_in("alice")
        await create_item(alice)
        lines.read()
        await alice.get("/items/1", headers={"X-Request-ID": "abc"})
        (line,) = lines.requests()
    assert isinstance(line.pop("ms"), float)
    assert isinstance(line.pop("timestamp"), str)
    assert line == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "route": "/items/{item_id}",
        "status": 200,
        "user_id": 1,
        "request_id": "abc",
    }


async def test_what_was_refused_is_logged_too(lines: Lines) -> None:
    """The line has nothing of the client's making where no route took the request."""
    async with lines.served() as people:
        await people.client.head("/users/me")
        await people.client.get(f"/{CANARY}?{CANARY}")
        await people.client.delete("/items")
        await people.client.request(CANARY, "/items")
        requests = lines.requests()
    assert [(line["method"], line["route"], line["status"], line["user_id"]) for line in requests] == [
        ("HEAD", "/users/me", 401, None),
        ("GET", "", 404, None),
        ("DELETE", "", 405, None),
        ("other", "", 405, None),
    ]
    assert CANARY.lower() not in lines.text.lower()


async def test_no_password_and_no_token_is_ever_logged(lines: Lines) -> None:
    """They come right or wrong, in a body, a form, a header, an address or a body that can't be read."""
    async with lines.served() as people:
        client = people.client
        await register(client, "alice", password=CANARY)
        token = (await log_in(client, "alice", password=CANARY)).json()["access_token"]
        await log_in(client, "alice", password=CANARY + "x")
        await log_in(client, CANARY, password="x")
        cut_off = f'{{"password": "{CANARY}"'.encode()
        await client.post("/users/", content=cut_off, headers={"Content-Type": "application/json"})
        await client.post("/users/", json={"username": "bob", "email": CANARY, "password": CANARY, CANARY: CANARY})
        await client.post("/token", content=f"password={CANARY}&password={CANARY}")
        await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        await client.get(f"/items?token={CANARY}", headers={"Authorization": f"Bearer {CANARY}"})
        await client.get("/users/me", headers={"Authorization": f"Basic {CANARY}", "Cookie": f"token={CANARY}"})
        carol = await people.sign_in("carol")
        await carol.get("/items")
        assert len(lines.requests()) == 11
    assert CANARY not in lines.text
    for secret in (token, token_of(carol)):
        assert secret not in lines.text
        assert secret.rpartition(".")[2] not in lines.text


async def test_a_bug_is_logged_once_with_its_traceback_and_answered_without(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer's `instance` leads to the line."""
    monkeypatch.setattr(ItemService, "page", fail)
    async with lines.served() as people:
        alice = await people.sign_in("alice")
        lines.read()
        answer = await alice.get("/items/")
        (error,) = [line for line in lines.read() if line["event"] != "request"]
    assert_problem(answer, 500, "Internal server error")
    assert "ZeroDivisionError" not in answer.text
    assert (error["level"], error["event"]) == ("error", "unhandled exception")
    assert error["request_id"] == answer.headers["X-Request-ID"]
    assert "ZeroDivisionError" in str(error["exception"])
    assert lines.text.count("Traceback") == 1


@pytest.mark.parametrize("environment", ["production", "development"])
async def test_a_traceback_shows_no_local_variables(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    """A password may be among them."""
    monkeypatch.setattr(ItemService, "page", fail)
    async with lines.served(environment=environment) as people:
        alice = await people.sign_in("alice")
        assert (await alice.get("/items/")).status_code == 500
        out = lines.capsys.readouterr().out
    assert "ZeroDivisionError" in out
    assert CANARY not in out
    assert token_of(alice) not in out


@on_sqlite
@pytest.mark.parametrize("production", [True, False])
def test_a_traceback_shows_no_row_that_the_database_refused(lines: Lines, *, production: bool) -> None:
    """PostgreSQL tells the row in the detail of its error, and an error that wraps it repeats that."""
    logs.configure("INFO", production=production)
    detail = f"new row violates a constraint\nDETAIL:  Failing row contains (1, a\n b, {CANARY}).\n"
    error = ValueError(f"{detail}HINT: None.\n[SQL: INSERT]")
    error.__cause__ = ZeroDivisionError(detail)
    structlog.get_logger().error("unhandled exception", exc_info=error)
    text = lines.capsys.readouterr().out
    assert CANARY not in text
    assert text.count("new row violates a constraint") == 2
    assert "HINT: None." in text
    assert "[SQL: INSERT]" in text
    assert "The above exception was the direct cause" in text


# What makes a database refuse a row with an error that is a bug of ours, since no rule foresees it.
REFUSED = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, 'refused'); END",
    "postgresql": "ALTER TABLE users ADD CONSTRAINT refused CHECK (username = 'root')",
}


@pytest.mark.parametrize("environment", ["production", "development"])
async def test_a_bug_that_the_database_finds_is_logged_without_the_row(
    capsys: pytest.CaptureFixture[str], own_database_url: str, environment: str
) -> None:
    """Drivers repeat the row that they refuse, and the library the parameters: addresses, hashes, people's texts."""
    settings = Settings(secret_key=SECRET, database_url=own_database_url, jobs_in_process=False)
    async with Lines(capsys, settings).served(environment=environment) as people:
        engine = parts_of(people.app).database.engine
        async with engine.begin() as connection:
            await connection.exec_driver_sql(REFUSED[engine.dialect.name])
        answer = await register(people.client, "alice", email=f"{CANARY}@example.org")
        out = capsys.readouterr().out
    assert_problem(answer, 500, "Internal server error")
    assert "INSERT INTO users" in out
    assert "IntegrityError" in out
    assert CANARY not in out
    assert "argon2" not in out


async def test_what_the_client_gets_wrong_is_no_error_in_the_log(lines: Lines) -> None:
    """It makes neither a warning nor a traceback."""
    async with lines.served() as people:
        await people.client.get("/users/me")
        await people.client.get("/nowhere")
        await people.client.post("/users/", json={})
        assert {line["level"] for line in lines.read()} == {"info"}


@on_sqlite
async def test_less_is_logged_where_that_is_asked_for(lines: Lines) -> None:
    """LOG_LEVEL=WARNING leaves the access lines out."""
    async with lines.served(log_level="WARNING") as people:
        await people.client.get("/health/live")
        assert lines.read() == []


@on_sqlite
def test_one_event_stays_one_line(lines: Lines) -> None:
    """The values of an event can't break its line."""
    logs.configure("INFO", production=True)
    structlog.get_logger().info("event", text="a\nb\r\n\u2028", value=object())
    (line,) = lines.read()
    assert line["text"] == "a\nb\r\n\u2028"


@on_sqlite
def test_libraries_log_in_the_same_form(lines: Lines) -> None:
    """Their warnings and errors are logged."""
    logs.configure("INFO", production=True)
    logging.getLogger("library").info("unseen")
    logging.getLogger("library").warning("seen %s", "well")
    (line,) = lines.read()
    assert (line["event"], line["logger"], line["level"]) == ("seen well", "library", "warning")


# Where lines go -------------------------------------------------------------------------------------------------------


class Disk(io.RawIOBase):
    """Takes so many bytes, in pieces, until it is full."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        """Take some of it."""
        piece = bytes(data)[: min(self.room, 10)]
        if not piece:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(piece)
        self.taken += piece
        return len(piece)


def test_a_line_that_cannot_be_written_costs_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one that can be written says how many were lost; one that was cut has no other glued to it."""
    disk = Disk(room=100)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8"))
    logs.configure("INFO", production=True)
    for number in range(3):
        structlog.get_logger().info("line", number=number)
    logging.getLogger("library").warning("said")
    disk.room = 10_000
    structlog.get_logger().info("line", number=3)
    structlog.get_logger().info("line", number=4)
    first, cut, third, fourth = disk.taken.decode().splitlines()
    assert json.loads(first)["number"] == 0
    assert not cut.endswith("}")
    assert (json.loads(third)["number"], json.loads(third)["lines_lost"]) == (3, 3)
    assert (json.loads(fourth)["number"], "lines_lost" in fourth) == (4, False)


def test_no_standard_output_at_all_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    logs.configure("INFO", production=False)
    structlog.get_logger().info("line")
    logs.say("line")


def test_what_the_output_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(room=10_000)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(disk), encoding="ascii"))
    logs.say("Müller \ud800")
    assert disk.taken == b"M\\xfcller \\ud800\n"
