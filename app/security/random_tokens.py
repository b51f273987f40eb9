"""Random tokens, of which the database has digests only, in a form by which programs that look for secrets find them.

A token begins with a prefix that says what it is, and ends with a checksum: a text that only looks like one is refused
without asking the database.
"""

import re
import secrets
from hashlib import sha256
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits
from zlib import crc32

BASE62 = digits + ascii_uppercase + ascii_lowercase
RANDOM_LENGTH = 32
"""Of the random characters, which are 190 bits."""
CHECKSUM_LENGTH = 6
"""Of the characters that hold a CRC-32."""
BODY = re.compile(rf"[{digits}{ascii_letters}]{{{RANDOM_LENGTH + CHECKSUM_LENGTH}}}")


def base62(length: int) -> str:
    """Return so many random letters and digits, from the system's source; each is 5.95 bits."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def digest(text: str) -> bytes:
    """Return what the database has of a token: its SHA-256.

    A slow hash is for passwords: it buys nothing where there are as many random bits as here.
    """
    return sha256(text.encode()).digest()


def random_token(prefix: str) -> str:
    """Return a new token: the prefix, RANDOM_LENGTH characters, and the checksum of all that."""
    unchecked = prefix + base62(RANDOM_LENGTH)
    return unchecked + checksum(unchecked)


def is_intact(token: str, prefix: str) -> bool:
    """Return whether a text has the form and the checksum of a token with that prefix."""
    unchecked, body = token[:-CHECKSUM_LENGTH], token[len(prefix) :]
    return bool(token.startswith(prefix) and BODY.fullmatch(body) and token.endswith(checksum(unchecked)))


def checksum(text: str) -> str:
    """Return the CRC-32 of a text in base62, filled up with zeros from the left."""
    rest, characters = crc32(text.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(BASE62))
        characters = BASE62[digit] + characters
    return characters
