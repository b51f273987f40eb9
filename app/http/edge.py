"""The outermost ASGI layer: HEAD as GET, request ids, security headers and the access log, also for failed requests."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Protocol, cast

import structlog
from litestar import Request
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, HTTPResponseBodyEvent, HTTPScope, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from app import logs
from app.errors import BadRequest
from app.http.access import is_public
from app.http.bodies import PART_BYTES, RequestBody, parts
from app.http.headers import combine_lists, lines_by_name, names_one_host, request_id
from app.http.problems import respond

# A client can make up further methods, which must get neither into logs nor into metrics' labels, which are kept for
# ever.
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
UNROUTABLE_PATH = "/."

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
]
HTTPS_HEADERS = [(b"strict-transport-security", b"max-age=31536000; includeSubDomains")]


class RequestObserver(Protocol):
    """An observer that counts requests and their answers, such as the metrics."""

    def arrived(self) -> None:
        """Count a request that has arrived."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer.

        `route` is the template of the path, empty where no route matched. `seconds` are those since the request
        arrived.
        """


class Edge:
    """The layer around the application's own ASGI handler; it is plain ASGI, since it runs for every request."""

    def __init__(
        self, app: ASGIApp, *, allow: Mapping[str, bytes], https: bool, observer: RequestObserver | None = None
    ) -> None:
        """Wrap an application; `allow` has the Allow header of each path, by the path's template."""
        self.app = app
        self.allow = allow
        self.observer = observer
        self.headers = SECURITY_HEADERS + (HTTPS_HEADERS if https else [])
        # Bound once: an unbound logger is bound again for each line.
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
            app = self.app if exchange.is_addressed else refuse_without_host
            await app(exchange.scope, exchange.body.receive, exchange.send)
        finally:
            exchange.log_access(self.logger)
            if self.observer:
                self.observer.answered(exchange.method, exchange.route, exchange.status, exchange.seconds)
        if exchange.body.unread:
            await exchange.body.read_rest()


class PathPrefix:
    """The layer for a public URL with a path, which a proxy removes from requests: it adds the path to answers."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name, self.with_prefix(name, value)) for name, value in message["headers"]]
            await send(message)

        await self.app(scope, receive, send_with_prefix)

    def with_prefix(self, name: bytes, value: bytes) -> bytes:
        """Return the value of a header, its URLs with the path of the public URL."""
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
        "body",
        "headers",
        "is_addressed",
        "is_head",
        "request_id",
        "scope",
        "server_send",
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
        lines = lines_by_name(scope["headers"])
        self.body = RequestBody(receive, lines)
        self.is_addressed = names_one_host(scope, lines)
        combine_lists(scope, lines)
        self.request_id = request_id(lines)
        logs.request_id.set(self.request_id)
        self.is_head = scope["method"] == "HEAD"
        self.scope = scope
        if self.is_head:
            # HEAD takes the route, guard and handler of GET; only the body is left out (RFC 9110, section 9.3.2).
            scope["method"] = "GET"
        if "//" in scope["path"]:
            # The router takes two slashes for one. A proxy that bars a path doesn't, and would let the request through.
            # Not reported: `normalize_path` in litestar/utils/path.py.
            scope["path"] = UNROUTABLE_PATH
        self.scope.setdefault("state", {}).update(request_id=self.request_id, is_head=self.is_head)
        self.server_send = send
        self.headers = headers
        self.allow = allow
        self.status = 0

    async def send(self, message: Message) -> None:
        """Pass a message of the answer to the server, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self.answer_headers(list(message["headers"]))
        elif message["type"] == "http.response.body":
            await self.send_body(message)
            return
        await self.server_send(message)

    async def send_body(self, message: HTTPResponseBodyEvent) -> None:
        """Pass a body to the server, in parts where it is large; the answer to HEAD has none."""
        if self.is_head:
            message["body"] = b""
        if len(message["body"]) <= PART_BYTES:
            await self.server_send(message)
            return
        for part in parts(message):
            await self.server_send(part)

    def answer_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer: the handler's own, and the defaults for those that it doesn't set."""
        own = {name for name, _ in headers}
        if b"allow" in own:
            headers = [(name, self.allow_header(value) if name == b"allow" else value) for name, value in headers]
        headers += [header for header in self.headers if header[0] not in own]
        headers.append((b"x-request-id", self.request_id.encode()))
        if self.body.is_long and b"connection" not in own:
            headers.append((b"connection", b"close"))
        if b"cache-control" not in own and self.is_guarded():
            headers.append((b"cache-control", b"private, no-cache"))
        return headers

    def allow_header(self, methods: bytes) -> bytes:
        """Return the Allow header of the path; that of Litestar's answer to OPTIONS lacks some handlers' methods."""
        # https://github.com/litestar-org/litestar/issues/4169: delete `allow` with Litestar 3, where it is mended.
        return self.allow.get(self.route) or with_head(methods)

    def is_guarded(self) -> bool:
        """Return whether the route needs a signed-in caller, whether or not this one was."""
        handler = cast("BaseRouteHandler | None", self.scope.get("route_handler"))  # None where no route matched
        return handler is not None and not is_public(handler)

    @property
    def method(self) -> str:
        """The method that the client sent, or `other` for one that isn't in METHODS."""
        method = "HEAD" if self.is_head else self.scope["method"]
        return method if method in METHODS else "other"

    @property
    def route(self) -> str:
        """The template of the path; empty where no route matched."""
        return self.scope.get("path_template", "")

    @property
    def seconds(self) -> float:
        """The seconds since the request arrived."""
        return perf_counter() - self.started

    def log_access(self, logger: FilteringBoundLogger) -> None:
        """Log the request, with the route's template instead of the path, so that no line holds a client's own text."""
        user = self.scope.get("user")
        logger.info(
            "request",
            method=self.method,
            route=self.route,
            status=self.status,
            ms=round(self.seconds * 1000, 2),
            user_id=getattr(user, "id", None),
        )


async def refuse_without_host(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that doesn't have one Host header, which may be meant for another service."""
    request: Request[Any, Any, Any] = Request(scope, receive, send)
    answer = respond(request, BadRequest("A request must have one Host header")).to_asgi_response(None, request)
    await answer(scope, receive, send)


def with_head(allow: bytes) -> bytes:
    """Return an Allow header with HEAD added wherever it has GET."""
    methods = {method.strip() for method in allow.split(b",")}
    return b", ".join(sorted(methods | {b"HEAD"} if b"GET" in methods else methods))
