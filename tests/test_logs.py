"""What is logged, and what never is."""

import json
import logging

import pytest
import structlog
from httpx import AsyncClient

from app import logs
from app.items.service import ItemService
from tests.factories import People, create_item, log_in, on_sqlite, register, token_of
from tests.problems import assert_problem

CANARY = "canary-3b9f"
Line = dict[str, object]


class Lines:
    """Reads what was logged since it was last asked."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.text = ""

    def start(self) -> None:
        """Log as production does, from here on: a test has another standard output than its fixtures."""
        logs.configure("INFO", production=True)

    def read(self) -> list[Line]:
        """Each line, which is one JSON object."""
        self.text = self.capsys.readouterr().out
        return [json.loads(line) for line in self.text.split("\n") if line]

    def requests(self) -> list[Line]:
        """The access lines among them."""
        return [line for line in self.read() if line["event"] == "request"]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What an application logs."""
    return Lines(capsys)


async def test_each_request_is_one_line(lines: Lines, people: People) -> None:
    """With the route's template, the status, the user's id, the time it took and the request's id."""
    lines.start()
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


async def test_what_was_refused_is_logged_too(lines: Lines, client: AsyncClient) -> None:
    """Without anything of the client's making where no route took the request."""
    lines.start()
    await client.head("/users/me")
    await client.get(f"/{CANARY}?{CANARY}")
    await client.delete("/items")
    requests = lines.requests()
    assert [(line["method"], line["route"], line["status"], line["user_id"]) for line in requests] == [
        ("HEAD", "/users/me", 401, None),
        ("GET", "", 404, None),
        ("DELETE", "", 405, None),
    ]
    assert CANARY not in lines.text


async def test_no_password_and_no_token_is_ever_logged(lines: Lines, client: AsyncClient, people: People) -> None:
    """Right or wrong, in a body, a form, a header, an address or a body that can't be read."""
    lines.start()
    await register(client, "alice", password=CANARY)
    token = (await log_in(client, "alice", password=CANARY)).json()["access_token"]
    await log_in(client, "alice", password=CANARY + "x")
    await log_in(client, CANARY, password="x")
    await client.post(
        "/users/", content=f'{{"password": "{CANARY}"'.encode(), headers={"Content-Type": "application/json"}
    )
    await client.post("/users/", json={"username": "bob", "email": CANARY, "password": CANARY, CANARY: CANARY})
    await client.post("/token", content=f"password={CANARY}&password={CANARY}")
    await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    await client.get(f"/items?token={CANARY}", headers={"Authorization": f"Bearer {CANARY}"})
    await client.get("/users/me", headers={"Authorization": f"Basic {CANARY}", "Cookie": f"token={CANARY}"})
    alice = await people.sign_in("carol")
    await alice.get("/items")
    assert lines.read()
    assert CANARY not in lines.text
    for secret in (token, token_of(alice)):
        assert secret not in lines.text
        assert secret.rpartition(".")[2] not in lines.text


async def test_a_bug_is_logged_once_with_its_traceback_and_answered_without(
    lines: Lines, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer's `instance` leads to the line."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError(CANARY)

    lines.start()
    alice = await people.sign_in("alice")
    monkeypatch.setattr(ItemService, "page", fail)
    lines.read()
    answer = await alice.get("/items/")
    assert_problem(answer, 500, "Internal server error")
    assert CANARY not in answer.text
    (error,) = [line for line in lines.read() if line["event"] != "request"]
    assert (error["level"], error["event"]) == ("error", "unhandled exception")
    assert error["request_id"] == answer.headers["X-Request-ID"]
    assert f"ZeroDivisionError: {CANARY}" in str(error["exception"])
    assert lines.text.count("Traceback") == 1


@on_sqlite
async def test_a_traceback_shows_no_local_variables(
    capsys: pytest.CaptureFixture[str], people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in development: there may be a password among them."""

    def fail(*_: object) -> None:
        secret = CANARY
        raise ZeroDivisionError(len(secret))

    logs.configure("INFO", production=False)
    alice = await people.sign_in("alice")
    monkeypatch.setattr(ItemService, "page", fail)
    assert (await alice.get("/items/")).status_code == 500
    out = capsys.readouterr().out
    assert "ZeroDivisionError" in out
    assert CANARY not in out
    assert token_of(alice) not in out


async def test_what_the_client_gets_wrong_is_no_error_in_the_log(lines: Lines, client: AsyncClient) -> None:
    """Neither a warning nor a traceback."""
    lines.start()
    await client.get("/users/me")
    await client.get("/nowhere")
    await client.post("/users/", json={})
    assert {line["level"] for line in lines.read()} == {"info"}


def test_one_event_stays_one_line(lines: Lines) -> None:
    """Whatever its values hold."""
    lines.start()
    structlog.get_logger().info("event", text="a\nb\r\n\u2028", value=object())
    (line,) = lines.read()
    assert line["text"] == "a\nb\r\n\u2028"


def test_libraries_log_in_the_same_form(lines: Lines) -> None:
    """From warnings on."""
    lines.start()
    logging.getLogger("library").info("unseen")
    logging.getLogger("library").warning("seen %s", "well")
    (line,) = lines.read()
    assert (line["event"], line["logger"], line["level"]) == ("seen well", "library", "warning")


@on_sqlite
async def test_less_is_logged_where_that_is_asked_for(capsys: pytest.CaptureFixture[str], client: AsyncClient) -> None:
    """LOG_LEVEL=WARNING leaves the access lines out."""
    logs.configure("WARNING", production=True)
    await client.get("/health/live")
    assert capsys.readouterr().out == ""
