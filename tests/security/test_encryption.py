"""Secrets at rest: what is encrypted is read by the same key, for the same purpose and context, and by nothing else."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.security.encryption import Encryption, UndecryptableError, derive_key
from tests.factories import SECRET

NEW = SECRET[::-1]


def test_a_secret_is_read_again_and_never_looks_the_same() -> None:
    encryption = Encryption(SECRET, purpose="tests")
    texts = {encryption.encrypt(b"umbrella", b"1") for _ in range(8)}
    assert len(texts) == 8
    assert {encryption.decrypt(text, b"1") for text in texts} == {(b"umbrella", False)}
    assert not [text for text in texts if b"umbrella" in text]


def test_it_is_aes_256_in_gcm_which_others_can_read() -> None:
    """An operator who has the key reads it without this code."""
    text = Encryption(SECRET, purpose="tests").encrypt(b"umbrella", b"1")
    key = derive_key(SECRET, "tests")
    assert len(key) == 32
    assert AESGCM(key).decrypt(text[:12], text[12:], b"1") == b"umbrella"


def test_what_the_previous_key_encrypted_is_read_and_known_to_be_old() -> None:
    text = Encryption(SECRET, purpose="tests").encrypt(b"umbrella", b"1")
    after = Encryption(NEW, SECRET, purpose="tests")
    assert after.decrypt(text, b"1") == (b"umbrella", True)
    assert after.decrypt(after.encrypt(b"umbrella", b"1"), b"1") == (b"umbrella", False)
    with pytest.raises(UndecryptableError):
        Encryption(NEW, purpose="tests").decrypt(text, b"1")


@pytest.mark.parametrize("change", ["purpose", "context", "key", "bit", "short", "empty"])
def test_nothing_else_reads_it(change: str) -> None:
    text = Encryption(SECRET, purpose="tests").encrypt(b"umbrella", b"1")
    reader = Encryption(NEW if change == "key" else SECRET, purpose="other" if change == "purpose" else "tests")
    changed = {"bit": bytes([text[0] ^ 1]) + text[1:], "short": text[:-1], "empty": b""}.get(change, text)
    with pytest.raises(UndecryptableError):
        reader.decrypt(changed, b"2" if change == "context" else b"1")
