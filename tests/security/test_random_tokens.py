"""Random tokens: their form, which secret scanners find, their checksum, and their digest."""

import re
from hashlib import sha256
from zlib import crc32

import pytest

from app.security.random_tokens import BASE62, base62, checksum, digest, is_intact, random_token


def test_a_token_has_its_prefix_32_random_characters_and_a_checksum() -> None:
    token = random_token("bat_")
    assert re.fullmatch(r"bat_[0-9A-Za-z]{38}", token)
    assert is_intact(token, "bat_")
    assert sum(BASE62.index(digit) * 62**place for place, digit in enumerate(reversed(token[36:]))) == crc32(
        token[:36].encode()
    )


def test_tokens_are_random() -> None:
    """Every character comes up, and no token twice."""
    tokens = {base62(32) for _ in range(200)}
    assert len(tokens) == 200
    assert set("".join(tokens)) == set(BASE62)


def test_any_other_character_spoils_the_checksum() -> None:
    token = random_token("bat_")
    for place in range(len(token)):
        other = "x" if token[place] != "x" else "y"
        assert not is_intact(token[:place] + other + token[place + 1 :], "bat_")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bat_",
        checksum(""),
        "bat_" + checksum("bat_"),
        "bat_" + "é" * 32 + checksum("bat_" + "é" * 32),
        "bat_" + "0" * 31 + checksum("bat_" + "0" * 31),
        "bat_" + "0" * 33 + checksum("bat_" + "0" * 33),
        "bax_" + "0" * 32 + checksum("bax_" + "0" * 32),
        "bat_" + "0" * 32 + checksum("bat_" + "0" * 32) + "\n",
    ],
)
def test_another_form_is_no_token(text: str) -> None:
    """A right checksum of something else doesn't help."""
    assert not is_intact(text, "bat_")


def test_a_checksum_has_six_characters() -> None:
    """Small ones have zeros before them. The text has CRC-32 0, as the standard's own arithmetic gives it."""
    assert checksum("") == "000000"
    assert len(checksum("bat_")) == 6


def test_the_database_has_the_sha_256() -> None:
    assert digest("bat_x") == sha256(b"bat_x").digest()
