"""The options of a route (Litestar's `opt`): who may call it, and how strictly its request is read.

The guard checks these options; the OpenAPI document and `litestar route-table` show them.
"""

from collections.abc import Mapping
from enum import StrEnum

from litestar.handlers import BaseRouteHandler

from app.errors import Forbidden

PUBLIC_KEY = "exclude_from_auth"
"""Litestar's own option: its authentication passes over the routes that have it."""
RIGHT_KEY = "right"
LENIENT_KEY = "lenient"
FORM_KEY = "form"


class Right(StrEnum):
    """A right that a route asks of its signed-in caller."""

    SUPERUSER = "superuser"
    SUPERUSER_OR_SELF = "superuser or self"
    """A superuser, or the user whose id the path has as `user_id`."""


PUBLIC = {PUBLIC_KEY: True}
"""Anyone may call the route. Every other route needs a signed-in caller."""
SUPERUSER = {RIGHT_KEY: Right.SUPERUSER}
SUPERUSER_OR_SELF = {RIGHT_KEY: Right.SUPERUSER_OR_SELF}
LENIENT = {LENIENT_KEY: True}
"""The route ignores query parameters that it doesn't know: docs, health and the OAuth endpoints do."""


class SuperuserOnly(Forbidden):
    """The caller is no superuser."""

    detail = "Only superusers may do this"


def is_public(handler: BaseRouteHandler) -> bool:
    """Return whether a route answers callers who aren't signed in."""
    return bool(handler.opt.get(PUBLIC_KEY))


def is_lenient(handler: BaseRouteHandler) -> bool:
    """Return whether a route ignores query parameters that it doesn't know."""
    return bool(handler.opt.get(LENIENT_KEY))


def right_of(handler: BaseRouteHandler) -> Right | None:
    """Return the right that a route asks of its signed-in caller; None where it asks for none."""
    right: Right | None = handler.opt.get(RIGHT_KEY)
    return right


def check_right(handler: BaseRouteHandler, path: Mapping[str, object], user_id: int, *, is_superuser: bool) -> None:
    """Raise SuperuserOnly unless the caller has the right that a route asks for; `path` has the path's parameters."""
    right = right_of(handler)
    if right is None or is_superuser or (right is Right.SUPERUSER_OR_SELF and path.get("user_id") == user_id):
        return
    raise SuperuserOnly


def access_of(handler: BaseRouteHandler) -> str:
    """Return who may call a route, as `litestar route-table` shows it: `public`, `signed in` or a right."""
    return "public" if is_public(handler) else right_of(handler) or "signed in"
