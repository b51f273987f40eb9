"""Passwords: how they are hashed and verified, and how many at once."""

import asyncio

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from app.security.passwords import HashingOverloadedError, Passwords, normalise
from tests.factories import REAL_HASHER, hashed_password, passwords


async def test_a_hash_verifies_its_password_and_no_other() -> None:
    hashed = await passwords().hash("right")
    assert await passwords().verify(hashed, "right")
    assert not await passwords().verify(hashed, "wrong")


async def test_the_hash_is_argon2ids_with_the_parameters_that_owasp_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.security.passwords.HASHER", REAL_HASHER)
    hashed = await Passwords().hash("right")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await Passwords().verify(hashed, "right")


async def test_each_hash_has_a_salt_of_its_own() -> None:
    assert await passwords().hash("same") != await passwords().hash("same")


async def test_without_a_hash_no_password_is_right() -> None:
    assert not await passwords().verify(None, "anything")


def test_what_stands_for_the_hash_of_an_unknown_name_takes_a_whole_hash_to_refuse() -> None:
    """Argon2 computes it, since all but its bytes is as in every other: a text that is no hash is refused at once."""
    own = passwords()
    assert not own.is_outdated(own.dummy)
    assert own.dummy != Passwords().dummy
    with pytest.raises(VerifyMismatchError):
        own.hasher.verify(own.dummy, "anything")


@pytest.mark.parametrize("hashed", ["$2b$12$0123456789", "", "no hash"])
async def test_a_hash_of_another_scheme_is_a_wrong_password_and_no_error(hashed: str) -> None:
    assert not await passwords().verify(hashed, "anything")


async def test_a_password_is_the_same_however_its_accents_are_composed() -> None:
    """NFKC makes the two ways to write é the same text, and a ligature the same as its letters."""
    assert normalise("e\u0301\ufb01") == "\u00e9fi"
    hashed = await passwords().hash("caf\u00e9")
    assert await passwords().verify(hashed, "cafe\u0301")


def test_only_a_hash_of_other_parameters_is_outdated() -> None:
    assert passwords().is_outdated(PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("old"))
    assert not passwords().is_outdated(hashed_password())


async def test_no_more_than_the_given_number_hash_at_once_and_the_queue_is_bounded() -> None:
    """Of seven at once, two are at work, three wait, and two are refused; then there is room again."""
    own = Passwords(threads=2, queue=3)
    own.hasher = REAL_HASHER  # It takes long enough to be seen at work.
    at_work = []

    async def watch() -> None:
        while True:
            at_work.append(own.limiter.borrowed_tokens)
            await asyncio.sleep(0.001)

    watcher = asyncio.create_task(watch())
    results = await asyncio.gather(*(own.hash("x") for _ in range(7)), return_exceptions=True)
    watcher.cancel()
    assert [isinstance(result, HashingOverloadedError) for result in results] == [False] * 5 + [True] * 2
    assert max(at_work) == 2
    assert await own.hash("x")
