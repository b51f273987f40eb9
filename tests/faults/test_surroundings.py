"""Faults around the service: clocks differ, and the mail server and the limits' storage are away."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
from httpx import AsyncClient

from app.security.tokens import ACCESS, Tokens
from tests.factories import SECRET, log_in, register, token_of
from tests.faults.production import Record, production, signed_in
from tests.programs import free_port
from tests.smtp import Mailbox, smtp

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("ahead", "lifetime", "status"),
    [(25, 60, 200), (35, 60, 401), (-25, 1, 200), (-35, 1, 401)],
    ids=["ahead", "too far ahead", "behind", "too far behind"],
)
async def test_the_clock_of_another_machine_may_differ_by_half_a_minute(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int, lifetime: int, status: int
) -> None:
    """A clock that is ahead issues tokens in the future, one that is behind issues tokens that have just expired."""
    with production(tmp_path, sqlite_url) as (url, _):
        async with signed_in(url) as client:
            peer = Tokens(secret=SECRET, algorithm="HS256", issuer=url)
            claims = peer.read(ACCESS, token_of(client))
            monkeypatch.setattr("app.security.tokens.time", lambda: time.time() + ahead)
            token = peer.issue(ACCESS, claims.user_id, timedelta(seconds=lifetime), sid=claims.sid)
            answer = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status


async def test_a_mail_goes_out_when_the_mail_server_returns(
    sqlite_url: str, tmp_path: Path, record_property: Record
) -> None:
    """The request that asked for it is answered at once."""
    port, mailbox = free_port(), Mailbox()
    with production(tmp_path, sqlite_url, SMTP_URL=f"smtp://127.0.0.1:{port}") as (url, _):
        async with AsyncClient(base_url=url) as client:
            started = monotonic()
            assert (await register(client, "alice")).status_code == 201
            answered = monotonic() - started
        while "job_failed" not in (tmp_path / "out").read_text():  # noqa: ASYNC110 - a file tells nobody that it grew
            await asyncio.sleep(0.1)
        async with smtp(mailbox, port=port):
            returned = monotonic()
            # The second attempt comes some ten seconds after the first.
            envelope, _ = await mailbox.next(within_seconds=30)
            delivered = monotonic() - returned
    assert envelope.rcpt_tos == ["alice@example.org"]
    record_property("registration in seconds", round(answered, 2))
    record_property("mail out after seconds", round(delivered, 1))
    assert answered < 2


@contextmanager
def storage(kind: str) -> Iterator[str]:
    """Give the URL of a Redis that isn't there, or never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if kind == "away":
            server.close()
        yield f"redis://127.0.0.1:{port}/0"


@pytest.mark.parametrize("kind", ["away", "silent"])
async def test_without_their_storage_the_limits_still_hold(
    sqlite_url: str, tmp_path: Path, record_property: Record, kind: str
) -> None:
    """Each process counts for itself: nobody is locked out, guesses are limited, and no request waits for long."""
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
