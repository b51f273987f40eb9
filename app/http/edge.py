"""The outermost ASGI layer: HEAD as GET, request ids, security headers and the access log, also where routing fails."""

import asyncio
import re
import secrets
from collections.abc import Mapping
from time import perf_counter
from typing import Protocol, cast

import structlog
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send
from structlog.typing import FilteringBoundLogger

from app import logs
from app.errors import BadRequest, RequestTimeout
from app.http.access import is_public

# Others are a client's invention, and belong neither into logs nor into labels, which are kept for ever.
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
NOWHERE = "/."
SANE_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}\Z")

BODY_WITHIN_SECONDS = 25
"""How long a whole body may take from the arrival of its headers on, however it trickles in; a worker that is told to
stop waits longer than that."""

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
]
HTTPS_HEADERS = [(b"strict-transport-security", b"max-age=31536000; includeSubDomains")]


class Observer(Protocol):
    """Whoever counts requests, metrics say."""

    def arrived(self) -> None:
        """Count a request that has come."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count its answer; `route` is the template of its path, empty where none matched."""


class Edge:
    """Wraps the application's own ASGI handler; plain ASGI, since it runs for every request."""

    def __init__(
        self, app: ASGIApp, *, allow: Mapping[str, bytes], https: bool, observer: Observer | None = None
    ) -> None:
        """`allow` has the methods of each path's template, as the Allow header names them."""
        self.app = app
        self.allow = allow
        self.observer = observer
        self.headers = SECURITY_HEADERS + (HTTPS_HEADERS if https else [])
        # Bound once: the module's own would be put together again for each line.
        self.logger = structlog.get_logger("access").bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self.headers, self.allow)
        if self.observer:
            self.observer.arrived()
        try:
            await self.app(exchange.scope, exchange.receive, exchange.send)
        finally:
            exchange.log(self.logger)
            if self.observer:
                self.observer.answered(exchange.method, exchange.route, exchange.status, exchange.seconds)


class PathPrefix:
    """Puts the path of the public URL, which a proxy cuts off requests, before the paths in answers."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name, self.public(name, value)) for name, value in message["headers"]]
            await send(message)

        await self.app(scope, receive, send_on)

    def public(self, name: bytes, value: bytes) -> bytes:
        """Return the header as the client must see it."""
        match name:
            case b"location" if value.startswith(b"/"):
                return self.path + value
            case b"link":
                return value.replace(b"</", b"<" + self.path + b"/")
        return value


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "allow",
        "headers",
        "is_head",
        "is_received",
        "receive_on",
        "request_id",
        "scope",
        "send_on",
        "started",
        "status",
    )

    def __init__(
        self,
        scope: HTTPScope,
        receive: Receive,
        send: Send,
        headers: list[tuple[bytes, bytes]],
        allow: Mapping[str, bytes],
    ) -> None:
        self.started = perf_counter()
        self.request_id = request_id(scope)
        logs.request_id.set(self.request_id)
        self.is_head = scope["method"] == "HEAD"
        self.scope = scope
        if self.is_head:
            # It takes the route, guard and handler of GET; only its body is left out (RFC 9110, section 9.3.2).
            scope["method"] = "GET"
        if "//" in scope["path"]:
            # The router takes it for one slash; a proxy that bars a path doesn't, and lets it through.
            # Not reported: `normalize_path` in litestar/utils/path.py.
            scope["path"] = NOWHERE
        self.scope.setdefault("state", {})["request_id"] = self.request_id
        self.receive_on = receive
        self.is_received = False
        self.send_on = send
        self.headers = headers
        self.allow = allow
        self.status = 0

    async def receive(self) -> ReceiveMessage:
        """Return a message of the request; whoever reads no body pays nothing for its deadline.

        Raise RequestTimeout, and BadRequest when the client hangs up before its body has come.
        """
        if self.is_received:
            return await self.receive_on()
        try:
            async with asyncio.timeout(BODY_WITHIN_SECONDS - self.seconds):
                message = await self.receive_on()
        except TimeoutError:
            raise RequestTimeout from None
        if message["type"] != "http.request":
            raise BadRequest("The body is cut off")
        self.is_received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self.answer_headers(list(message["headers"]))
        elif self.is_head and message["type"] == "http.response.body":
            message["body"] = b""
        await self.send_on(message)

    def answer_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer: its own first, so that a handler's choice wins over the default."""
        own = {name for name, _ in headers}
        if b"allow" in own:
            headers = [(name, self.allowed(value) if name == b"allow" else value) for name, value in headers]
        headers += [header for header in self.headers if header[0] not in own]
        headers.append((b"x-request-id", self.request_id.encode()))
        if b"cache-control" not in own and self.is_guarded():
            headers.append((b"cache-control", b"private, no-cache"))
        return headers

    def allowed(self, methods: bytes) -> bytes:
        """Return the methods of the path; the framework's answer to OPTIONS forgets those of later handlers."""
        # https://github.com/litestar-org/litestar/issues/4169: delete `allow` with Litestar 3, where it is mended.
        return self.allow.get(self.route) or with_head(methods)

    def is_guarded(self) -> bool:
        """Return whether the route asks who calls, answered or refused."""
        handler = cast("BaseRouteHandler | None", self.scope.get("route_handler"))  # None where no route took it
        return handler is not None and not is_public(handler)

    @property
    def method(self) -> str:
        """The method as the client sent it, or `other`."""
        method = "HEAD" if self.is_head else self.scope["method"]
        return method if method in METHODS else "other"

    @property
    def route(self) -> str:
        """The template of the path; empty where no route took it."""
        return self.scope.get("path_template", "")

    @property
    def seconds(self) -> float:
        """The time since the request arrived."""
        return perf_counter() - self.started

    def log(self, logger: FilteringBoundLogger) -> None:
        """Write the access line, with the route's template for the path: it holds nothing that a client made up."""
        user = self.scope.get("user")
        logger.info(
            "request",
            method=self.method,
            route=self.route,
            status=self.status,
            ms=round(self.seconds * 1000, 2),
            user_id=getattr(user, "id", None),
        )


def request_id(scope: HTTPScope) -> str:
    """Return the client's X-Request-ID where it is sane, else a random one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_ID.match(value):
            return value.decode("ascii")
    return secrets.token_hex(16)


def with_head(allow: bytes) -> bytes:
    """Return an Allow header that names HEAD wherever it names GET."""
    methods = {method.strip() for method in allow.split(b",")}
    return b", ".join(sorted(methods | {b"HEAD"} if b"GET" in methods else methods))
