"""A collector of traces on this machine, which keeps what it receives by OTLP over HTTP."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Attributes = dict[str, object]


class Collector:
    """The traces that have come so far."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[tuple[str, bytes]] = []
        """The path and the body of each request."""

    @property
    def raw(self) -> bytes:
        """The bytes of all bodies."""
        return b"".join(body for _, body in self.received)

    @property
    def batches(self) -> list[ExportTraceServiceRequest]:
        """The bodies, as the protocol defines them."""
        return [ExportTraceServiceRequest.FromString(body) for _, body in self.received]

    @property
    def services(self) -> set[object]:
        """The names of the services that sent them."""
        resources = [part.resource for batch in self.batches for part in batch.resource_spans]
        return {attributes(resource.attributes)["service.name"] for resource in resources}

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order in which they ended."""
        parts = [part for batch in self.batches for part in batch.resource_spans]
        return [span for part in parts for scope in part.scope_spans for span in scope.spans]

    @property
    def requests(self) -> list[Span]:
        """The spans of requests."""
        return [span for span in self.spans if span.kind == Span.SpanKind.SPAN_KIND_SERVER]

    def request(self, name: str) -> Span:
        """Return the one request of this name."""
        (span,) = [span for span in self.requests if span.name == name]
        return span

    def statements(self, request: Span) -> list[Span]:
        """Return the spans of a request's statements."""
        return [span for span in self.spans if span.parent_span_id == request.span_id]


def attributes(pairs: Iterable[KeyValue]) -> Attributes:
    """Return the attributes of a span or a resource, by name."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in pairs}


@contextmanager
def running() -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
