"""The encryption of secrets that the database keeps and the service must read again: AES-256-GCM (NIST SP 800-38D)."""

import os
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12


class UndecryptableError(Exception):
    """The text was encrypted by another key, for another context, or was changed."""


class Decrypted(NamedTuple):
    """A secret as it was before it was encrypted."""

    secret: bytes
    is_outdated: bool
    """True where the previous key has encrypted it: whoever reads it encrypts it anew."""


class Encryption:
    """Encrypts secrets for one purpose, by a key that HKDF (RFC 5869) derives from SECRET_KEY for that purpose alone.

    What the previous key has encrypted is still read. Nonces are random, of 96 bits: 2^32 secrets may be encrypted by
    one key. The `context` of a secret, such as the id of its owner, isn't stored with it, and must be the same when it
    is read: so nobody who can write to the database moves a secret to another row.
    """

    def __init__(self, secret: str, previous_secret: str = "", *, purpose: str) -> None:
        secrets = [secret, previous_secret] if previous_secret else [secret]
        self.ciphers = [AESGCM(derive_key(key, purpose)) for key in secrets]

    def encrypt(self, secret: bytes, context: bytes) -> bytes:
        """Return a secret encrypted: the nonce, and then the text with its tag."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self.ciphers[0].encrypt(nonce, secret, context)

    def decrypt(self, encrypted: bytes, context: bytes) -> Decrypted:
        """Return the secret that `encrypt` was given. Raise UndecryptableError."""
        nonce, text = encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:]
        for number, cipher in enumerate(self.ciphers):
            try:
                return Decrypted(cipher.decrypt(nonce, text, context), is_outdated=number > 0)
            except (InvalidTag, ValueError):
                continue
        raise UndecryptableError


def derive_key(secret: str, purpose: str) -> bytes:
    """Return the key of a purpose."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"backend-api {purpose}".encode()).derive(secret.encode())
