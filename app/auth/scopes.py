"""Scopes (RFC 6749, section 3.3): the parts of a user's rights to which sessions and access tokens are narrowed.

A scope is granted whether or not the user has the right; a call needs both. None stands for everything that the user
may do. Texts of scopes have spaces between them, and no scope twice.
"""

from collections.abc import Container

from app.errors import OAuthError


class InvalidScope(OAuthError):
    """A scope is unknown, malformed, or more than the session was granted."""

    error = "invalid_scope"
    detail = "A scope is unknown, or more than was granted"


def read_scope(text: str | None, known: Container[str]) -> str | None:
    """Return the scopes that a form asks for, each once. Raise InvalidScope for an unknown one, and for none."""
    if text is None:
        return None
    scopes = list(dict.fromkeys(text.split(" ")))
    if not all(scope in known for scope in scopes):
        raise InvalidScope
    return " ".join(scopes)


def narrow(granted: str | None, asked: str | None) -> str | None:
    """Return the scopes that were asked for, or all that are granted.

    Raise InvalidScope for more than those, and where none is granted.
    """
    if granted == "":
        raise InvalidScope
    if asked is None or granted is None:
        return asked or granted
    if not set(asked.split()) <= set(granted.split()):
        raise InvalidScope
    return asked


def common_scopes(claimed: str, granted: str | None) -> str:
    """Return the scopes that a token claims, as far as its session has them; without any, the token may do nothing."""
    if granted is None or claimed == granted:
        return claimed
    held = granted.split()
    return " ".join(scope for scope in claimed.split() if scope in held)
