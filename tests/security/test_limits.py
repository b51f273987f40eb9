"""Limits: on this process's storage and on a real Redis alike."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from time import monotonic

import msgspec
import pytest
from limits import RateLimitItem, RateLimitItemPerSecond
from redis import Redis
from redis.asyncio import SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from app.errors import TooManyRequests
from app.main import create_app
from app.security import limits as module
from app.security.limits import (
    FAILED_LOGINS,
    PASSWORD_RESETS,
    PASSWORD_RESETS_PER_NETWORK,
    Limits,
    OrderedMemoryStorage,
)
from app.security.passwords import HashingOverloadedError
from app.settings import Settings, SettingsError
from tests.factories import SECRET, add_user, connect_to, log_in, on_sqlite

TWO_A_SECOND = RateLimitItemPerSecond(2, namespace="test")


@contextmanager
def redis_server(folder: Path) -> Iterator[tuple[str, int]]:
    """A Redis of the tests' own on a free port, and its process id."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed; Debian's package has the same name")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            yield f"redis://127.0.0.1:{port}/0", process.pid
        finally:
            process.kill()


def wait_for(port: int) -> None:
    """Until the server answers."""
    deadline = monotonic() + 10
    with Redis(port=port) as client:
        while monotonic() < deadline:
            try:
                client.ping()
            except RedisConnectionError:
                continue
            return
    pytest.fail("redis-server does not answer")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture(params=["", "redis", "valkey"])
async def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Limits]:
    """Limits with counts of the test's own, since a secret of its own is in the keys."""
    # A machine that runs tests in parallel may be slow; an outage has tests of its own.
    monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 10)
    url = request.getfixturevalue("redis_url").replace("redis", request.param) if request.param else ""
    limits = Limits(url, secret=token_hex())
    yield limits
    assert limits.suspended_until == 0
    await limits.close()


async def right() -> bool:
    await asyncio.sleep(0)
    return True


async def wrong() -> bool:
    await asyncio.sleep(0)
    return False


# Counting ------------------------------------------------------------------------------------------------------------


async def test_what_is_over_the_limit_is_refused(limits: Limits) -> None:
    for _ in range(5):
        await limits.hit(PASSWORD_RESETS, "alice@example.org")
    with pytest.raises(TooManyRequests) as refusal:
        await limits.hit(PASSWORD_RESETS, "alice@example.org")
    assert 3590 <= int(refusal.value.headers["Retry-After"]) <= 3600


async def test_a_check_counts_nothing_and_sees_what_is_counted(limits: Limits) -> None:
    for _ in range(10):
        await limits.check(PASSWORD_RESETS, "alice@example.org")
    for _ in range(5):
        await limits.hit(PASSWORD_RESETS, "alice@example.org")
    with pytest.raises(TooManyRequests) as refusal:
        await limits.check(PASSWORD_RESETS, "alice@example.org")
    assert 3590 <= int(refusal.value.headers["Retry-After"]) <= 3600


async def test_the_window_moves_and_refusals_do_not_extend_it(limits: Limits) -> None:
    for _ in range(2):
        await limits.hit(TWO_A_SECOND, "a")
    for _ in range(3):
        with pytest.raises(TooManyRequests) as refusal:
            await limits.hit(TWO_A_SECOND, "a")
        assert refusal.value.headers["Retry-After"] == "1"
    await asyncio.sleep(1.1)
    await limits.check(TWO_A_SECOND, "a")
    await limits.hit(TWO_A_SECOND, "a")


async def test_what_is_cleared_is_forgotten(limits: Limits) -> None:
    for _ in range(5):
        await limits.hit(PASSWORD_RESETS, "alice@example.org")
    await limits.clear(PASSWORD_RESETS, "alice@example.org")
    await limits.hit(PASSWORD_RESETS, "alice@example.org")


async def test_each_limit_and_each_key_has_its_own_count(limits: Limits) -> None:
    for _ in range(2):
        await limits.hit(TWO_A_SECOND, "ab", "c")
    await limits.hit(TWO_A_SECOND, "a", "bc")
    await limits.hit(TWO_A_SECOND, "abc")
    await limits.hit(PASSWORD_RESETS, "ab", "c")
    await limits.hit(TWO_A_SECOND, "\ud800")  # a lone surrogate is as good a key as any


async def test_no_more_than_the_limit_get_through_at_once(limits: Limits) -> None:
    hits = [limits.hit(PASSWORD_RESETS_PER_NETWORK, "192.0.2.1") for _ in range(200)]
    results = await asyncio.gather(*hits, return_exceptions=True)
    assert results.count(None) == 50
    assert sum(isinstance(result, TooManyRequests) for result in results) == 150


# Guesses -------------------------------------------------------------------------------------------------------------


async def test_of_64_guesses_at_once_10_are_told_that_they_are_wrong(limits: Limits) -> None:
    guesses = [limits.verify_within_limits(wrong, account="1", network="192.0.2.1") for _ in range(64)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert results.count(False) == 10
    assert sum(isinstance(result, TooManyRequests) for result in results) == 54
    with pytest.raises(TooManyRequests):
        await limits.verify_within_limits(right, account="1", network="192.0.2.1")


async def test_a_right_guess_is_not_told_when_the_limit_was_used_up_meanwhile(limits: Limits) -> None:
    async def right_but_late() -> bool:
        for _ in range(10):
            await limits.hit(FAILED_LOGINS, "1", "192.0.2.1")
        return True

    with pytest.raises(TooManyRequests):
        await limits.verify_within_limits(right_but_late, account="1", network="192.0.2.1")


async def test_right_guesses_are_not_counted(limits: Limits) -> None:
    for number in range(120):
        assert await limits.verify_within_limits(right, account=str(number % 3), network="192.0.2.1")


async def test_a_strangers_wrong_guesses_do_not_lock_the_owner_out(limits: Limits) -> None:
    for _ in range(10):
        assert not await limits.verify_within_limits(wrong, account="1", network="192.0.2.1")
    with pytest.raises(TooManyRequests):
        await limits.verify_within_limits(wrong, account="1", network="192.0.2.1")
    assert await limits.verify_within_limits(right, account="1", network="198.51.100.1")
    assert await limits.verify_within_limits(right, account="2", network="192.0.2.1")


async def test_one_network_has_100_wrong_guesses_at_all_accounts_together(limits: Limits) -> None:
    for number in range(100):
        assert not await limits.verify_within_limits(wrong, account=str(number), network="192.0.2.1")
    with pytest.raises(TooManyRequests):
        await limits.verify_within_limits(wrong, account="100", network="192.0.2.1")
    assert not await limits.verify_within_limits(wrong, account="100", network="198.51.100.1")


async def test_a_guess_that_could_not_be_verified_is_not_counted(limits: Limits) -> None:
    async def overloaded() -> bool:
        raise HashingOverloadedError

    for _ in range(11):
        with pytest.raises(HashingOverloadedError):
            await limits.verify_within_limits(overloaded, account="1", network="192.0.2.1")
    await limits.check(FAILED_LOGINS, "1", "192.0.2.1")


# Storage -------------------------------------------------------------------------------------------------------------


async def test_processes_share_counts_in_which_no_name_stands(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 10)
    secret = token_hex()
    one, other = Limits(redis_url, secret=secret), Limits(redis_url, secret=secret)
    for _ in range(5):
        await one.verify_within_limits(wrong, account="alice", network="192.0.2.1")
        await other.verify_within_limits(wrong, account="alice", network="192.0.2.1")
    with pytest.raises(TooManyRequests):
        await one.verify_within_limits(right, account="alice", network="192.0.2.1")
    with Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter(f"LIMITS:*/{one.storage_key(['alice', '192.0.2.1'])}/*"))
        assert len(keys) == 1
        assert 0 < client.ttl(keys[0]) <= 900
        everything = b" ".join(client.scan_iter("*"))
    assert b"alice" not in everything
    assert b"192.0.2.1" not in everything
    await one.close()
    await other.close()


async def test_without_its_storage_a_process_counts_for_itself_and_warns_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    limits = Limits(f"redis://127.0.0.1:{port}/0")
    with capture_logs() as logs:
        results = await asyncio.gather(
            *(limits.verify_within_limits(wrong, account="1", network="192.0.2.1") for _ in range(20)),
            return_exceptions=True,
        )
    assert results.count(False) == 10
    assert [line["log_level"] for line in logs] == ["warning"]
    assert logs[0]["cause"] == "ConnectionError"
    await limits.close()


async def test_a_storage_that_hangs_is_left_alone_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(tmp_path) as (url, pid):
        limits = Limits(url)
        monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 10)
        await limits.hit(TWO_A_SECOND, "connects")
        monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 0.1)
        os.kill(pid, signal.SIGSTOP)
        try:
            started = monotonic()
            with capture_logs() as logs:
                for _ in range(5):
                    await limits.hit(PASSWORD_RESETS, "alice@example.org")
            assert monotonic() - started < 1
            assert [line["cause"] for line in logs] == ["TimeoutError"]
            with pytest.raises(TooManyRequests):
                await limits.hit(PASSWORD_RESETS, "alice@example.org")
        finally:
            os.kill(pid, signal.SIGCONT)
        monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 10)
        limits.suspended_until = 0
        await limits.check(PASSWORD_RESETS, "alice@example.org")  # the shared count never saw five
        assert limits.suspended_until == 0
        await limits.close()


async def test_this_process_forgets_what_has_expired() -> None:
    memory = OrderedMemoryStorage()
    assert await memory.acquire_entry("old", 1, 0)
    assert await memory.acquire_entry("new", 1, 60)
    assert list(memory.events) == ["new"]


async def test_this_process_keeps_no_more_keys_than_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    memory = OrderedMemoryStorage()
    for key in "abacd":
        assert await memory.acquire_entry(key, 5, 60)
    assert list(memory.events) == ["a", "c", "d"]


async def test_nothing_fits_into_a_limit_that_is_smaller() -> None:
    assert not await OrderedMemoryStorage().acquire_entry("a", 1, 60, 2)


@on_sqlite
async def test_two_services_share_their_limits(
    settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 10)
    settings = msgspec.structs.replace(settings, rate_limit_storage=redis_url, secret_key=token_hex(32))
    app = create_app(settings)
    async with connect_to(app) as one, connect_to(create_app(settings)) as other:
        await add_user(app, "alice")
        for client in [one, other] * 5:
            assert (await log_in(client, "alice", password="wrong")).status_code == 401
        for client in (one, other):
            refusal = await log_in(client, "alice")
            assert refusal.status_code == 429
            assert 1 <= int(refusal.headers["Retry-After"]) <= 900


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory://", "redis", "redis://", "redis://[", "redis://host:port", "http://host"])
def test_a_storage_that_is_no_redis_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="RATE_LIMIT_STORAGE"):
        Settings(secret_key=SECRET, rate_limit_storage=url)


@pytest.mark.parametrize("url", ["", "redis://host", "valkeys://user:word@host:6380/1"])
def test_a_redis_or_valkey_is_accepted(url: str) -> None:
    assert Settings(secret_key=SECRET, rate_limit_storage=url).rate_limit_storage == url


def test_a_secure_url_makes_secure_connections() -> None:
    limits = Limits("valkeys://user:word@host:6380/1")
    assert limits.pool
    assert limits.pool.connection_class is SSLConnection


def test_the_contract_has_these_limits() -> None:
    limits = {
        limit.namespace: (limit.amount, limit.get_expiry())
        for limit in vars(module).values()
        if isinstance(limit, RateLimitItem)
    }
    assert limits == {
        "failed-logins": (10, 900),
        "failed-logins-per-network": (100, 900),
        "password-resets": (5, 3600),
        "password-resets-per-network": (50, 3600),
        "email-verifications": (5, 3600),
        "email-verifications-per-network": (50, 3600),
    }
