"""Limits, on this process's storage and on a real Redis alike."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from secrets import token_hex
from time import monotonic
from typing import Any

import msgspec
import pytest
from limits import RateLimitItem, RateLimitItemPerSecond
from redis import Redis
from redis.asyncio import SSLConnection
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
from app.settings import Settings
from tests import servers
from tests.factories import add_user, connect_to, log_in, on_sqlite
from tests.programs import free_port

TWO_A_SECOND = RateLimitItemPerSecond(2, namespace="test")
ALICE = "alice@example.org"


@pytest.fixture(autouse=True)
def _slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that runs tests in parallel may be slow; an outage of the storage has tests of its own."""
    monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 10)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis for the tests of this process."""
    with servers.redis() as url:
        yield url


@asynccontextmanager
async def open_limits(url: str = "", *, secret: str = "") -> AsyncIterator[Limits]:
    """Open limits, and close their connections at the end of the block."""
    limits = Limits(url, secret=secret)
    yield limits
    await limits.close()


@pytest.fixture(params=["", "redis", "valkey"])
async def limits(request: pytest.FixtureRequest) -> AsyncIterator[Limits]:
    """Limits with counts of the test's own, since a secret of its own is in the keys; their storage never fails."""
    url = request.getfixturevalue("redis_url").replace("redis", request.param) if request.param else ""
    with capture_logs() as logs:
        async with open_limits(url, secret=token_hex()) as limits:
            yield limits
    assert logs == []


async def right() -> bool:
    """Verify a right password."""
    await asyncio.sleep(0)
    return True


async def wrong() -> bool:
    """Verify a wrong password."""
    await asyncio.sleep(0)
    return False


# Counting ------------------------------------------------------------------------------------------------------------


async def use_up(limits: Limits) -> None:
    """Ask for as many password resets as alice may."""
    for _ in range(5):
        await limits.hit(PASSWORD_RESETS, ALICE)


async def test_a_hit_over_the_limit_is_refused_for_the_rest_of_the_window(limits: Limits) -> None:
    await use_up(limits)
    with pytest.raises(TooManyRequests) as refusal:
        await limits.hit(PASSWORD_RESETS, ALICE)
    assert 3590 <= int(refusal.value.headers["Retry-After"]) <= 3600


async def test_a_check_counts_nothing_and_sees_what_is_counted(limits: Limits) -> None:
    for _ in range(10):
        await limits.check(PASSWORD_RESETS, ALICE)
    await use_up(limits)
    with pytest.raises(TooManyRequests) as refusal:
        await limits.check(PASSWORD_RESETS, ALICE)
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


async def test_processes_share_counts_and_no_name_or_address_is_in_their_keys(redis_url: str) -> None:
    secret = token_hex()
    with Redis.from_url(redis_url) as client:
        before = set(client.scan_iter("*"))
        async with open_limits(redis_url, secret=secret) as one, open_limits(redis_url, secret=secret) as other:
            for _ in range(5):
                await one.verify_within_limits(wrong, account="alice", network="192.0.2.1")
                await other.verify_within_limits(wrong, account="alice", network="192.0.2.1")
            with pytest.raises(TooManyRequests):
                await one.verify_within_limits(right, account="alice", network="192.0.2.1")
        keys = set(client.scan_iter("*")) - before
        assert len(keys) == 2  # one for the account and the network, one for the network
        assert all(0 < client.ttl(key) <= 900 for key in keys)
    assert not any(b"alice" in key or b"192.0.2.1" in key for key in keys)


async def test_without_its_storage_a_process_counts_for_itself_and_warns_once() -> None:
    async with open_limits(f"redis://127.0.0.1:{free_port()}/0") as limits:
        guesses = [limits.verify_within_limits(wrong, account="1", network="192.0.2.1") for _ in range(20)]
        with capture_logs() as logs:
            results = await asyncio.gather(*guesses, return_exceptions=True)
    assert results.count(False) == 10
    assert [(line["log_level"], line["cause"]) for line in logs] == [("warning", "ConnectionError")]


async def test_a_storage_that_hangs_is_left_alone_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.redis_server() as (url, pid):
        async with open_limits(url) as limits:
            await limits.hit(TWO_A_SECOND, "connects")
            assert limits.shared
            hit, asked = limits.shared.hit, 0

            async def count(*arguments: Any) -> bool:  # noqa: ANN401 - the library's
                nonlocal asked
                asked += 1
                return await hit(*arguments)

            monkeypatch.setattr(limits.shared, "hit", count)
            monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 0.1)
            os.kill(pid, signal.SIGSTOP)
            try:
                with capture_logs() as logs:
                    await use_up(limits)
                assert asked == 1
                assert [line["cause"] for line in logs] == ["TimeoutError"]
                with pytest.raises(TooManyRequests):
                    await limits.hit(PASSWORD_RESETS, ALICE)
            finally:
                os.kill(pid, signal.SIGCONT)
            monkeypatch.setattr(module, "ANSWER_WITHIN_SECONDS", 10)
            monkeypatch.setattr(module, "monotonic", lambda: monotonic() + module.RETRY_AFTER_SECONDS)
            with capture_logs() as logs:
                await limits.check(PASSWORD_RESETS, ALICE)  # the shared count never saw five
            assert logs == []


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
async def test_two_services_share_their_limits(settings: Settings, redis_url: str) -> None:
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
        "wrong-codes": (10, 900),
        "wrong-code-mails": (1, 900),
    }
