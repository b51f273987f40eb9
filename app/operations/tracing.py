"""OpenTelemetry traces, where OTEL_EXPORTER_OTLP_ENDPOINT is set: a span for each request and for each SQL statement.

Nothing imports this module where it isn't, so that its packages are an extra. Spans follow OpenTelemetry's stable
conventions for HTTP and databases, and hold nothing of a client's making: no query, header, address, parameter of a
statement or text of an error.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import http_attributes as http
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext
from structlog.typing import EventDict, Processor, WrappedLogger

from app.database.driver import Rows
from app.database.sessions import Database
from app.http.edge import METHODS

FLUSH_SECONDS = 3
OTHER_METHOD = "_OTHER"
SERVER_ERROR = 500
CALLER = TraceContextTextMapPropagator()
CALLER_HEADERS = frozenset(name.encode() for name in CALLER.fields)


class Tracing:
    """The spans of one application, which go out in batches from a thread of their own."""

    def __init__(self, endpoint: str, service_name: str) -> None:
        """`endpoint` is the base URL of a collector that takes OTLP over HTTP.

        The SDK reads the other variables that OpenTelemetry defines, for headers, sampling or batches, by itself.
        """
        self.provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service_name}), shutdown_on_exit=False)
        self.exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("app")

    async def close(self) -> None:
        """Send what is left, and give up after FLUSH_SECONDS: a collector that is away must not keep the service."""
        # The SDK would wait half a minute; a thread of the event loop's own would have to end before the process does.
        # https://github.com/open-telemetry/opentelemetry-python/issues/4623
        flush = Thread(target=self.provider.shutdown, daemon=True)
        flush.start()
        await asyncio.to_thread(flush.join, FLUSH_SECONDS)
        if flush.is_alive():
            self.exporter.shutdown()  # type: ignore[no-untyped-call] # the SDK's

    def trace(self, *databases: Database) -> None:
        """Make the databases' statements spans."""
        for database in databases:
            TracedStatements(database, self.tracer)

    def requests(self, app: ASGIApp) -> ASGIApp:
        """An application whose requests are."""
        return TracedRequests(app, self.tracer)

    @property
    def log_processors(self) -> Sequence[Processor]:
        """What lines of the log say besides, while a span is there."""
        return [add_trace_id]


class TracedRequests:
    """The outermost ASGI layer where traces are on; W3C's `traceparent` makes a request's span part of the caller's."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        method, path = known_method(scope), scope["path"]

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_status(span, message["status"])
            await send(message)

        with self.tracer.start_as_current_span(
            span_name(method),
            context_of(scope),
            SpanKind.SERVER,
            {http.HTTP_REQUEST_METHOD: method, URL_SCHEME: scope["scheme"]},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                with failure_noted(span):
                    await self.app(scope, receive, send_on)
            finally:
                set_route(span, scope, method, path)


def known_method(scope: HTTPScope) -> str:
    """The request's method, or what the conventions put for one that isn't HTTP's."""
    return scope["method"] if scope["method"] in METHODS else OTHER_METHOD


def span_name(method: str, route: str = "") -> str:
    """As the conventions want it: of few different values."""
    return f"{'HTTP' if method == OTHER_METHOD else method} {route}".rstrip()


def context_of(scope: HTTPScope) -> Context:
    """The caller's span, if it names one; nothing else of the caller's is taken over."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in CALLER_HEADERS}
    return CALLER.extract(headers, Context())


def set_status(span: Span, status: int) -> None:
    """Note the answer's status; a client's mistake is no error of a server's span."""
    span.set_attribute(http.HTTP_RESPONSE_STATUS_CODE, status)
    if status >= SERVER_ERROR:
        fail(span, str(status))


def set_route(span: Span, scope: HTTPScope, method: str, path: str) -> None:
    """Name the span by its route, which is known once the request was routed.

    The path is noted where it is the route's own but for ids: any other holds what the client made up.
    """
    if route := scope.get("path_template"):
        span.update_name(span_name(method, route))
        span.set_attribute(http.HTTP_ROUTE, route)
        if all(isinstance(value, int) for value in scope["path_params"].values()):
            span.set_attribute(URL_PATH, path)


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed; the text of an error is left out, since it may quote values."""
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(StatusCode.ERROR)


@contextmanager
def failure_noted(span: Span) -> Iterator[None]:
    """Mark the span as failed where the block raises, by SQLSTATE or the error's type."""
    try:
        yield
    except BaseException as error:
        state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
        if state:
            span.set_attribute(db.DB_RESPONSE_STATUS_CODE, state)
        fail(span, state or type(error).__name__)
        raise


class TracedStatements:
    """Makes the statements of a database spans of the requests that send them.

    Those that nobody's span asks for, a worker that looks for jobs say, have none. BEGIN, COMMIT and ROLLBACK have none
    either where the driver sends them by itself, as asyncpg does.
    """

    def __init__(self, database: Database, tracer: Tracer) -> None:
        self.tracer = tracer
        self.system = database.engine.dialect.name
        self.send_on = database.send
        database.send = self.send
        event.listen(database.engine.sync_engine, "do_execute", self.execute)

    def execute(self, cursor: DBAPICursor, sql: str, parameters: Any, context: ExecutionContext) -> bool:  # noqa: ANN401 - the driver's
        """Run a statement of SQLAlchemy's in its place, which True says."""
        with self.span(sql):
            context.dialect.do_execute(cursor, sql, parameters, context)
        return True

    def send(self, sql: str, values: Sequence[object]) -> Rows:
        """Have the driver itself run a statement; the span begins before there is a connection for it."""
        with self.span(sql):
            return self.send_on(sql, values)

    @contextmanager
    def span(self, sql: str) -> Iterator[None]:
        """A span of one statement, whose text has placeholders where its parameters go."""
        if not get_current_span().is_recording():
            yield
            return
        operation = sql.split(maxsplit=1)[0]
        attributes = {db.DB_SYSTEM_NAME: self.system, db.DB_OPERATION_NAME: operation, db.DB_QUERY_TEXT: sql}
        span = self.tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            with failure_noted(span):
                yield
        finally:
            span.end()


def add_trace_id(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Put the ids of the current trace and span on a line of the log, under the names of OpenTelemetry's formats."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        event_dict["trace_id"] = format_trace_id(context.trace_id)
        event_dict["span_id"] = format_span_id(context.span_id)
    return event_dict
