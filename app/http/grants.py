"""The grants of the token endpoint (RFC 6749, section 1.3), which features add by their `grant_type`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from app.security.applications import Application
from app.security.limits import Client


class Grant(Struct, frozen=True):
    """One way to get tokens."""

    answer: Callable[[Mapping[str, str], Client, Application | None], Awaitable[Any]]
    """Returns the tokens for a form of a client's; the application is that which it names, where one is known by it.
    Raises OAuthError and TooManyRequests."""
    form: type[Struct]
    """The parameters that the grant takes, as the OpenAPI document says it; those without a default are required."""
