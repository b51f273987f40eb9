"""Passwords that are known from breaches, with a service of the tests' own."""

import asyncio
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import ClassVar

import pytest
from anyio import to_thread
from httpx import AsyncClient
from msgspec.structs import replace
from structlog.testing import capture_logs

from app.main import create_app
from app.security import breaches
from app.security.breaches import Breaches, is_listed
from app.settings import Settings
from tests.factories import PASSWORD, People, connect_to, log_in, register
from tests.operations.cli import commands_of, invoke
from tests.outbox import deliver, token_in
from tests.problems import assert_problem, pointers
from tests.programs import free_port

BREACHED = "correct horse battery staple, again"
PADDED = "a password that is as good as any"
GOOD = "violet-umbrella-under-7-moons"
REASON = "is known from a data breach"


def digest(password: str) -> str:
    """Return a password's SHA-1, as such services write it."""
    return sha1(password.encode(), usedforsecurity=False).hexdigest().upper()


class Handler(BaseHTTPRequestHandler):
    """A service that knows one password, and may be in trouble."""

    trouble: ClassVar[str] = ""
    asked: ClassVar[list[tuple[str, str | None]]] = []
    may_go_on: ClassVar[Event] = Event()

    def do_GET(self) -> None:  # the library looks for that name
        """Answer with the rest of each hash that begins like this."""
        self.asked.append((self.path, self.headers["Add-Padding"]))
        prefix = self.path.rpartition("/")[2]
        lines = [f"{'0' * 35}:3", f"{digest(PADDED)[5:]}:0"]
        lines += [f"{digest(BREACHED)[5:]}:42"] if digest(BREACHED).startswith(prefix) else []
        body = "\r\n".join(lines).encode()
        if self.trouble == "hangs":
            self.may_go_on.wait(30)
        elif self.trouble == "redirects":
            self.send_response(302)
            self.send_header("Location", f"/range/again/{prefix}")
            self.end_headers()
            return
        elif self.trouble == "too long":
            body = body.rjust(breaches.MOST_CHARACTERS + 1)
        self.send_response(500 if self.trouble == "fails" else 200)
        self.send_header("Content-Length", str(len(body) + (self.trouble == "hangs up")))
        self.end_headers()
        self.wfile.write(b"<html>" if self.trouble == "no list" else body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    """The URL of a service on this machine."""
    Handler.trouble, Handler.asked, Handler.may_go_on = "", [], Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/range"
    Handler.may_go_on.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def asking(settings: Settings, service: str) -> Settings:
    """The settings of an application that asks the service."""
    return replace(settings, breached_passwords_url=service)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that runs tests in parallel may be slow."""
    monkeypatch.setattr(breaches, "WITHIN_SECONDS", 15.0)


async def test_a_password_of_a_breach_is_refused_wherever_one_is_chosen(asking: Settings) -> None:
    """The refusal names the field; whatever was there stays as it was."""
    app = create_app(asking)
    async with connect_to(app) as client:
        answer = await register(client, "alice", password=BREACHED)
        assert_problem(answer, 422)
        assert answer.json()["errors"] == [{"pointer": "/password", "detail": REASON}]
        alice = await People(app, client).sign_in("alice")
        change = {"current_password": PASSWORD, "new_password": BREACHED}
        assert pointers(await alice.put("/users/me/password", json=change)) == ["/new_password"]
        await client.post("/password-reset", json={"email": "alice@example.org"})
        (mail,) = await deliver(app, asking)
        reset = {"token": token_in(mail), "new_password": BREACHED}
        assert pointers(await client.post("/password-reset/confirm", json=reset)) == ["/new_password"]
        assert (await log_in(client, "alice")).status_code == 200
        assert (await client.post("/password-reset/confirm", json=reset | {"new_password": GOOD})).status_code == 204
        assert (await register(client, "bob", password=PADDED)).status_code == 201


async def test_a_superuser_has_no_such_password_either(asking: Settings) -> None:
    arguments = ["create-superuser", "--username", "root", "--email", "root@example.org"]
    for password, status in ((BREACHED, 1), (GOOD, 0)):
        group = commands_of(asking)
        ended, output = await to_thread.run_sync(invoke, group, arguments, password)
        assert (ended, REASON in output) == (status, status == 1), output


async def test_the_service_learns_five_characters_of_a_hash(service: str) -> None:
    """Its answer is padded, and what is only there for that isn't known."""
    assert await Breaches(service).contain(BREACHED)
    assert not await Breaches(f"{service}/").contain(PADDED)
    assert Handler.asked == [(f"/range/{digest(password)[:5]}", "true") for password in (BREACHED, PADDED)]


async def test_nobody_is_asked_by_default(client: AsyncClient, service: str) -> None:
    assert service
    assert (await register(client, "alice", password=BREACHED)).status_code == 201
    assert Handler.asked == []


@pytest.mark.parametrize("trouble", ["fails", "redirects", "too long", "hangs up", "is away"])
async def test_a_service_that_does_not_answer_well_is_passed_over(service: str, trouble: str) -> None:
    """The log tells so, and nothing of the password."""
    Handler.trouble = trouble
    url = f"http://127.0.0.1:{free_port()}" if trouble == "is away" else service
    with capture_logs() as lines:
        assert not await Breaches(url).contain(BREACHED)
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("breached_passwords_unknown", "warning")
    assert set(line) == {"event", "log_level", "cause"}
    assert len(Handler.asked) <= 1


async def test_an_answer_that_is_no_list_knows_nothing(service: str) -> None:
    Handler.trouble = "no list"
    with capture_logs():
        assert not await Breaches(service).contain(BREACHED)


async def test_a_service_that_hangs_is_given_up_and_keeps_nobody_waiting(
    asking: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Handler.trouble = "hangs"
    async with connect_to(create_app(asking)) as client:
        registration = asyncio.create_task(register(client, "alice", password=BREACHED))
        async with asyncio.timeout(30):
            while not Handler.asked:  # noqa: ASYNC110 - a thread tells nobody
                await asyncio.sleep(0.01)
        assert (await client.get("/health/ready")).status_code == 200
        assert not registration.done()
        monkeypatch.setattr(breaches, "WITHIN_SECONDS", 0.1)
        assert (await register(client, "bob", password=BREACHED)).status_code == 201
        Handler.may_go_on.set()
        assert (await registration).status_code == 422


def test_a_line_has_the_rest_of_a_hash_and_how_often_it_was_seen() -> None:
    rest = "0" * 34 + "A"
    for answer in (f"{rest}:1", f"x\n{rest.lower()}:12\r\ny", f" {rest} : 3 ", f"{rest}:{'9' * 5000}"):
        assert is_listed(rest, answer), answer
    for answer in ("", rest, f"{rest}:", f"{rest}:0", f"{rest}:-1", f"{rest}:x", f"1{rest}:1"):
        assert not is_listed(rest, answer), answer


def test_it_gives_up_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert breaches.WITHIN_SECONDS == 1
