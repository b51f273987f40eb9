"""Bytes as browsers write them in JSON: base64url, without padding (RFC 4648, section 5)."""

import base64


def encoded(content: bytes) -> str:
    """Return bytes in base64url, without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decoded(text: str) -> bytes:
    """Return the bytes of a text in base64url. Raise ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
