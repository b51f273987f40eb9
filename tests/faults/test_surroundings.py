"""What stands around the service fails: clocks differ, the mail server and the limits' storage are away."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from httpx import AsyncClient

from app.security.tokens import ACCESS, Tokens
from tests.factories import SECRET, log_in, register, token_of
from tests.faults.production import free_port, production, signed_in

pytestmark = pytest.mark.faults
Record = Callable[[str, object], None]


@pytest.mark.parametrize(
    ("ahead", "lifetime", "status"),
    [(25, 60, 200), (35, 60, 401), (-25, 1, 200), (-35, 1, 401)],
    ids=["ahead", "too far ahead", "behind", "too far behind"],
)
async def test_the_clock_of_another_machine_may_differ_by_half_a_minute(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int, lifetime: int, status: int
) -> None:
    """One that is ahead issues tokens in the future, one that is behind tokens that have just expired."""
    with production(tmp_path, sqlite_url) as (url, _):
        async with signed_in(url) as client:
            peer = Tokens(secret=SECRET, algorithm="HS256", issuer=url)
            claims = peer.read(ACCESS, token_of(client))
            monkeypatch.setattr("app.security.tokens.time", lambda: time.time() + ahead)
            token = peer.issue(ACCESS, claims.user_id, timedelta(seconds=lifetime), sid=claims.sid)
            answer = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status


class Mailbox(asyncio.Queue[str]):
    """The addresses that a mail server has taken mails for."""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Take a mail."""
        self.put_nowait(envelope.rcpt_tos[0])
        return "250 Taken"


async def test_a_mail_goes_out_when_the_mail_server_returns(
    sqlite_url: str, tmp_path: Path, record_property: Record
) -> None:
    """The request that asked for it knows nothing of that."""
    port, mailbox = free_port(), Mailbox()
    with production(tmp_path, sqlite_url, SMTP_URL=f"smtp://127.0.0.1:{port}") as (url, _):
        async with AsyncClient(base_url=url) as client:
            started = monotonic()
            assert (await register(client, "alice")).status_code == 201
            answered = monotonic() - started
        while "job_failed" not in (tmp_path / "out").read_text():  # noqa: ASYNC110 - a file tells nobody that it grew
            await asyncio.sleep(0.1)
        server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", port)
        returned = monotonic()
        # Its second attempt comes some ten seconds after the first.
        assert await asyncio.wait_for(mailbox.get(), 30) == "alice@example.org"
        delivered = monotonic() - returned
        server.close()
    record_property("registration in seconds", round(answered, 2))
    record_property("mail out after seconds", round(delivered, 1))
    assert answered < 2


@contextmanager
def storage(kind: str) -> Iterator[str]:
    """Where a Redis should be: nothing listens there, or somebody who never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if kind == "away":
            server.close()
        yield f"redis://127.0.0.1:{port}/0"


@pytest.mark.parametrize("kind", ["away", "silent"])
async def test_without_their_storage_the_limits_still_hold(
    sqlite_url: str, tmp_path: Path, record_property: Record, kind: str
) -> None:
    """Each process counts for itself: nobody is locked out, nobody guesses on, and nobody waits for it."""
    longest = 0.0
    with storage(kind) as redis, production(tmp_path, sqlite_url, RATE_LIMIT_STORAGE=redis) as (url, _):
        async with AsyncClient(base_url=url, timeout=30) as client:
            assert (await register(client, "alice")).status_code == 201
            for status in [401] * 10 + [429]:
                started = monotonic()
                assert (await log_in(client, "alice", password="wrong")).status_code == status
                longest = max(longest, monotonic() - started)
        async with signed_in(url, "bob") as bob:
            assert (await bob.get("/users/me")).status_code == 200
    record_property("longest login in seconds", round(longest, 2))
    assert longest < 2
