"""OpenTelemetry traces, where OTEL_EXPORTER_OTLP_ENDPOINT is set: a span for each request and for each SQL statement.

Otherwise nothing imports this module, so that its packages are an extra. Spans follow OpenTelemetry's stable
conventions for HTTP and databases. They hold no text that a client sends: no query, header, address, parameter of a
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
PROPAGATOR = TraceContextTextMapPropagator()
PROPAGATION_HEADERS = frozenset(name.encode() for name in PROPAGATOR.fields)


class Tracing:
    """The spans of one application, which a thread of their own sends in batches."""

    def __init__(self, endpoint: str, service_name: str) -> None:
        """Send spans to a collector, by OTLP over HTTP; `endpoint` is its base URL.

        The SDK itself reads the other variables that OpenTelemetry defines, for headers, sampling and batches.
        """
        self.provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service_name}), shutdown_on_exit=False)
        self.exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("app")

    async def close(self) -> None:
        """Send the remaining spans, and give up after FLUSH_SECONDS when the collector doesn't take them."""
        # The SDK would wait half a minute. A thread of the event loop would have to end before the process can.
        # https://github.com/open-telemetry/opentelemetry-python/issues/4623
        flush = Thread(target=self.provider.shutdown, daemon=True)
        flush.start()
        await asyncio.to_thread(flush.join, FLUSH_SECONDS)
        if flush.is_alive():
            self.exporter.shutdown()  # type: ignore[no-untyped-call] # the SDK's

    def trace_statements(self, *databases: Database) -> None:
        """Make a span of each statement of the databases."""
        for database in databases:
            TracedStatements(database, self.tracer)

    def trace_requests(self, app: ASGIApp) -> ASGIApp:
        """Return an ASGI application that makes a span of each request to `app`."""
        return TracedRequests(app, self.tracer)

    @property
    def log_processors(self) -> Sequence[Processor]:
        """The processors that add the ids of the current trace and span to lines of the log."""
        return [add_trace_id]


class TracedRequests:
    """The outermost ASGI layer where traces are on; by W3C's `traceparent`, a span joins the client's trace."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        method, path = span_method(scope), scope["path"]

        async def send_and_set_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_status(span, message["status"])
            await send(message)

        with self.tracer.start_as_current_span(
            span_name(method),
            remote_context(scope),
            SpanKind.SERVER,
            {http.HTTP_REQUEST_METHOD: method, URL_SCHEME: scope["scheme"]},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                with mark_failures(span):
                    await self.app(scope, receive, send_and_set_status)
            finally:
                set_route(span, scope, method, path)


def span_method(scope: HTTPScope) -> str:
    """Return the request's method, or the conventions' substitute for one that isn't in METHODS."""
    return scope["method"] if scope["method"] in METHODS else OTHER_METHOD


def span_name(method: str, route: str = "") -> str:
    """Return the name of a request's span, which by the conventions has few different values."""
    return f"{'HTTP' if method == OTHER_METHOD else method} {route}".rstrip()


def remote_context(scope: HTTPScope) -> Context:
    """Return the context of the client's span, if the request has one, and nothing else that the client sends."""
    headers = {
        name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PROPAGATION_HEADERS
    }
    return PROPAGATOR.extract(headers, Context())


def set_status(span: Span, status: int) -> None:
    """Set the answer's status; only statuses from 500 on mark a server's span as failed."""
    span.set_attribute(http.HTTP_RESPONSE_STATUS_CODE, status)
    if status >= SERVER_ERROR:
        mark_failed(span, str(status))


def set_route(span: Span, scope: HTTPScope, method: str, path: str) -> None:
    """Name the span by its route, which is known when the request has been routed.

    The path is set where all its parameters are ids, since other parameters hold texts of the client's.
    """
    if route := scope.get("path_template"):
        span.update_name(span_name(method, route))
        span.set_attribute(http.HTTP_ROUTE, route)
        if all(isinstance(value, int) for value in scope["path_params"].values()):
            span.set_attribute(URL_PATH, path)


def mark_failed(span: Span, kind: str) -> None:
    """Mark a span as failed by a kind of error, without the error's text, which may quote values."""
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(StatusCode.ERROR)


@contextmanager
def mark_failures(span: Span) -> Iterator[None]:
    """Mark a span as failed when the block raises, by the SQLSTATE or the error's type."""
    try:
        yield
    except BaseException as error:
        state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
        if state:
            span.set_attribute(db.DB_RESPONSE_STATUS_CODE, state)
        mark_failed(span, state or type(error).__name__)
        raise


class TracedStatements:
    """The statements of a database, with a span for each within the span of its request.

    Statements outside of any span, such as a worker's when it polls for jobs, have none. BEGIN, COMMIT and ROLLBACK
    have none either where the driver sends them by itself, as asyncpg does.
    """

    def __init__(self, database: Database, tracer: Tracer) -> None:
        self.tracer = tracer
        self.system = database.engine.dialect.name
        self.run_untraced = database.run_sql
        database.run_sql = self.run_sql
        event.listen(database.engine.sync_engine, "do_execute", self.execute)

    def execute(self, cursor: DBAPICursor, sql: str, parameters: Any, context: ExecutionContext) -> bool:  # noqa: ANN401 - the driver's
        """Run a statement instead of SQLAlchemy, which the returned True prevents from running it again."""
        with self.span(sql):
            context.dialect.do_execute(cursor, sql, parameters, context)
        return True

    def run_sql(self, sql: str, values: Sequence[object]) -> Rows:
        """Return the rows of SQL that the driver runs; the span includes the wait for a connection."""
        with self.span(sql):
            return self.run_untraced(sql, values)

    @contextmanager
    def span(self, sql: str) -> Iterator[None]:
        """Make a span of one statement, whose text has placeholders instead of parameters."""
        if not get_current_span().is_recording():
            yield
            return
        operation = sql.split(maxsplit=1)[0]
        attributes = {db.DB_SYSTEM_NAME: self.system, db.DB_OPERATION_NAME: operation, db.DB_QUERY_TEXT: sql}
        span = self.tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            with mark_failures(span):
                yield
        finally:
            span.end()


def add_trace_id(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add the ids of the current trace and span to a line of the log, by the names of OpenTelemetry's log formats."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        event_dict["trace_id"] = format_trace_id(context.trace_id)
        event_dict["span_id"] = format_span_id(context.span_id)
    return event_dict
