"""Cross-origin requests by pages of origins that change while the service runs, to a few paths (the Fetch standard).

CORS_ORIGINS names origins that may call everything, and is fixed; Litestar serves those.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import cast

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from sqlalchemy.exc import SQLAlchemyError

LONGEST_ORIGIN = 300
PREFLIGHT_HEADERS = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, X-Request-ID"),
    (b"access-control-max-age", b"600"),
    (b"vary", b"Origin"),
]
EXPOSED = "Retry-After, WWW-Authenticate, X-Request-ID"
log = structlog.get_logger()


class OriginLayer:
    """The layer that lets pages of known origins call some paths, without cookies."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        paths: Collection[str],
        is_known: Callable[[str], Awaitable[bool]],
        others: Collection[str],
    ) -> None:
        """`is_known` says of an origin whether its pages may call; `others` are those of CORS_ORIGINS."""
        self.app = app
        self.paths = paths
        self.is_known = is_known
        self.others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        origin = self.origin(scope)
        if not origin or not await self.allows(origin):
            await self.app(scope, receive, send)
        elif is_preflight(cast("HTTPScope", scope)):
            headers = [(b"access-control-allow-origin", origin.encode()), *PREFLIGHT_HEADERS]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self.app(scope, receive, with_origin(send, origin))

    def origin(self, scope: Scope) -> str:
        """Return the origin of a request to one of the paths; an empty text where that is none of this layer's."""
        if scope["type"] != ScopeType.HTTP or scope["path"].rstrip("/") not in self.paths:
            return ""
        lines = [value for name, value in scope["headers"] if name == b"origin"]
        origin = lines[0].decode("latin-1") if len(lines) == 1 else ""
        is_others = origin in self.others or "*" in self.others
        return "" if is_others or len(origin) > LONGEST_ORIGIN else origin

    async def allows(self, origin: str) -> bool:
        """Return whether an origin's pages may call; not, while the database is away."""
        try:
            return await self.is_known(origin)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("origins not known", cause=type(error).__name__)
            return False


def is_preflight(scope: HTTPScope) -> bool:
    """Return whether a browser asks before it sends a request."""
    asked = (b"access-control-request-method", b"origin")
    return scope["method"] == "OPTIONS" and {name for name, _ in scope["headers"]}.issuperset(asked)


def with_origin(send: Send, origin: str) -> Send:
    """Return a function that sends an answer which a page of the origin may read."""

    async def send_to_page(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableScopeHeaders.from_message(message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = EXPOSED
            headers.add("Vary", "Origin")
        await send(message)

    return send_to_page
