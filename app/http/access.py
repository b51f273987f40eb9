"""The options of a route (Litestar's `opt`): who may call it, and how strictly its request is read.

The guard checks them, and the document and the table of routes say them.
"""

from collections.abc import Mapping
from enum import StrEnum

from litestar.handlers import BaseRouteHandler

from app.errors import Forbidden

PUBLIC_KEY = "exclude_from_auth"
"""Litestar's own name for it."""
RIGHT_KEY = "right"
LENIENT_KEY = "lenient"
FORM_KEY = "form"


class Right(StrEnum):
    """What a signed-in caller needs besides."""

    SUPERUSER = "superuser"
    SUPERUSER_OR_SELF = "superuser or self"
    """A superuser, or the user whose id the path has as `user_id`."""


PUBLIC = {PUBLIC_KEY: True}
"""Whoever asks gets an answer; every other route needs a caller who is signed in."""
SUPERUSER = {RIGHT_KEY: Right.SUPERUSER}
SUPERUSER_OR_SELF = {RIGHT_KEY: Right.SUPERUSER_OR_SELF}
LENIENT = {LENIENT_KEY: True}
"""Docs, health and the OAuth endpoints ignore the query parameters that they don't know."""


class SuperuserOnly(Forbidden):
    """The caller has no superuser's rights."""

    detail = "Only superusers may do this"


def is_public(handler: BaseRouteHandler) -> bool:
    """Return whether a route answers callers who aren't signed in."""
    return bool(handler.opt.get(PUBLIC_KEY))


def is_lenient(handler: BaseRouteHandler) -> bool:
    """Return whether a route ignores query parameters that it doesn't know."""
    return bool(handler.opt.get(LENIENT_KEY))


def right_of(handler: BaseRouteHandler) -> Right | None:
    """Return what a signed-in caller of a route needs besides."""
    right: Right | None = handler.opt.get(RIGHT_KEY)
    return right


def check_right(handler: BaseRouteHandler, path: Mapping[str, object], user_id: int, *, is_superuser: bool) -> None:
    """Let a caller have what a route gives, `path` being its path's parameters. Raise SuperuserOnly."""
    right = right_of(handler)
    if right is None or is_superuser or (right is Right.SUPERUSER_OR_SELF and path.get("user_id") == user_id):
        return
    raise SuperuserOnly


def access_of(handler: BaseRouteHandler) -> str:
    """Return a route's access in a word or three: `public`, `signed in`, or the right that it needs."""
    return "public" if is_public(handler) else right_of(handler) or "signed in"
