"""Challenges: the numbers that passkeys sign, each for one purpose in one session, once, for five minutes.

A challenge says by itself until when it is good, and its signature by the service says for what. So one that was asked
for has no row: strangers may ask for any number. Only those that a passkey has signed are written down, so that they
work once.
"""

import hmac
import secrets
from datetime import UTC, datetime
from hashlib import blake2b
from time import time

from app.factors.passkeys.encoding import decoded, encoded
from app.factors.passkeys.repository import SpentChallengeRepository
from app.security.random_tokens import digest

RANDOM_BYTES = 32
TIME_BYTES = 8
UNSIGNED_BYTES = RANDOM_BYTES + TIME_BYTES
LIFETIME_SECONDS = 5 * 60
ENROLMENT, SIGN_IN, REAUTHENTICATION = "enrolment", "sign-in", "reauthentication"


class Challenges:
    """The service that makes challenges and spends them."""

    def __init__(self, spent: SpentChallengeRepository, *secret_keys: str) -> None:
        """Sign with the first key, and also accept what the others have signed. Empty keys are ignored."""
        self.spent = spent
        self.keys = [blake2b(secret.encode(), person=b"challenges").digest() for secret in secret_keys if secret]

    def new(self, purpose: str, session_id: int) -> str:
        """Return a challenge, as browsers take it."""
        expires = int(time()) + LIFETIME_SECONDS
        unsigned = secrets.token_bytes(RANDOM_BYTES) + expires.to_bytes(TIME_BYTES)
        return encoded(unsigned + signature_of(self.keys[0], unsigned, purpose, session_id))

    async def spend(self, challenge: str, purpose: str, session_id: int) -> bool:
        """Spend a challenge that a passkey has signed; of many calls at once, one succeeds.

        Return False for one that isn't good for this.
        """
        raw = decoded(challenge)
        unsigned, signature = raw[:UNSIGNED_BYTES], raw[UNSIGNED_BYTES:]
        expected = (signature_of(key, unsigned, purpose, session_id) for key in self.keys)
        if not any(hmac.compare_digest(signature, one) for one in expected):
            return False
        expires = int.from_bytes(unsigned[RANDOM_BYTES:])
        if expires <= time():
            return False
        return await self.spent.add(digest(encoded(raw)), datetime.fromtimestamp(expires, UTC))


def signature_of(key: bytes, unsigned: bytes, purpose: str, session_id: int) -> bytes:
    """Return the signature of a challenge for a purpose in a session."""
    return blake2b(unsigned + f"{purpose} {session_id}".encode(), key=key, digest_size=32).digest()
