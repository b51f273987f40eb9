"""Traces, as a collector receives them by OTLP over HTTP."""

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from litestar import get
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from sqlalchemy import text

from app.http.access import PUBLIC
from app.http.feature import Feature, Parts
from app.main import FEATURES, FeatureFactory, create_app
from app.settings import Settings
from tests.collector import Collector, attributes, running
from tests.factories import SECRET, People, Statements, connect_to, create_item, log_in, parts_of, register, token_of
from tests.problems import assert_problem
from tests.programs import ROOT, environment, run, service

CANARY = "canary-3b9f-Qz7xT2"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
KEPT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
NOT_KEPT = {"traceparent": f"00-{TRACE}-{CALLER}-00"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes traces."""
    with running() as collector:
        yield collector


@asynccontextmanager
async def traced(settings: Settings, collector: Collector, *features: FeatureFactory) -> AsyncIterator[People]:
    """Run an application whose traces are on; the collector has them at the end of the block."""
    settings = msgspec.structs.replace(settings, otel_exporter_otlp_endpoint=collector.url)
    app = create_app(settings, [*FEATURES, *features])
    async with connect_to(app) as client:
        yield People(app, client)


# Spans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_sends_a_span_for_each_request_and_its_statements(
    tmp_path: Path, free_tcp_port: int, database_url: str, collector: Collector
) -> None:
    """The spans are part of the caller's trace, the log names them, and all are sent before the program ends."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url + "/", "OTEL_SERVICE_NAME": "shop"}
    variables |= {"ENVIRONMENT": "production", "SECRET_KEY": SECRET, "DATABASE_URL": database_url}
    with service(tmp_path, free_tcp_port, **variables) as process:
        httpx.get(f"http://127.0.0.1:{free_tcp_port}/health/ready", headers=KEPT | {"X-Request-ID": "abc"})
        process.terminate()
        assert process.wait(15) == 0
    assert {path for path, _ in collector.received} == {"/v1/traces"}
    assert collector.services == {"shop"}
    (span,) = [span for span in collector.requests if span.trace_id.hex() == TRACE]
    assert span.parent_span_id.hex() == CALLER
    assert span.name == "GET /health/ready"
    assert [statement.trace_id.hex() for statement in collector.statements(span)] == [TRACE]
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "abc"]
    assert (line["trace_id"], line["span_id"]) == (TRACE, span.span_id.hex())


async def test_a_request_has_the_attributes_that_the_conventions_require(
    settings: Settings, collector: Collector
) -> None:
    async with traced(settings, collector) as people:
        alice = await people.sign_in("alice")
        await create_item(alice)
        await alice.get("/items/1")
    span = collector.request("GET /items/{item_id}")
    assert attributes(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/items/{item_id}",
        "http.response.status_code": 200,
        "url.path": "/items/1",
        "url.scheme": "http",
    }
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert not span.parent_span_id
    assert span.end_time_unix_nano > span.start_time_unix_nano


@pytest.mark.direct("which counts the statements, of which there is one more for each transaction")
async def test_each_statement_has_its_text_without_its_parameters(settings: Settings, collector: Collector) -> None:
    """Statements that the driver runs itself and those of SQLAlchemy's sessions have one span each."""
    async with traced(settings, collector) as people:
        alice = await people.sign_in("alice")
        await create_item(alice)
        with Statements.of(people.app) as sent:
            await alice.patch("/items/1", json={"title": CANARY})
        system = parts_of(people.app).database.engine.dialect.name
    spans = collector.statements(collector.request("PATCH /items/{item_id}"))
    facts = [attributes(span.attributes) for span in spans if span.name != "BEGIN"]  # SQLite's, which `sent` names so
    assert [fact["db.query.text"] for fact in facts] == [sql for sql in sent if sql not in {"BEGIN", "COMMIT"}]
    assert [fact["db.operation.name"] for fact in facts] == ["SELECT", "SELECT", "UPDATE"]
    assert {fact["db.system.name"] for fact in facts} == {system}


async def test_head_and_invented_methods_are_named_as_the_conventions_want(
    settings: Settings, collector: Collector
) -> None:
    """HEAD keeps its name although GET's handler answers it; every method that HTTP doesn't know has one name."""
    async with traced(settings, collector) as people:
        await people.client.head("/health/live")
        await people.client.request("BREW", "/health/live")
    assert attributes(collector.request("HEAD /health/live").attributes)["http.request.method"] == "HEAD"
    assert attributes(collector.request("HTTP").attributes)["http.request.method"] == "_OTHER"


@get("/break", opt=PUBLIC)
async def break_down() -> None:
    """Have a bug."""
    raise ZeroDivisionError(CANARY)


async def test_a_fault_of_the_service_is_an_error_and_a_mistake_of_the_client_is_not(
    settings: Settings, collector: Collector
) -> None:
    def feature(_parts: Parts) -> Feature:
        return Feature(routes=[break_down])

    async with traced(settings, collector, feature) as people:
        assert_problem(await people.client.get("/break"), 500)
        assert_problem(await people.client.get("/users/me"), 401)
    broken, refused = collector.request("GET /break"), collector.request("GET /users/me")
    assert attributes(broken.attributes)["error.type"] == "500"
    assert broken.status.code == Status.STATUS_CODE_ERROR
    assert CANARY.encode() not in collector.raw
    assert attributes(refused.attributes)["http.response.status_code"] == 401
    assert "error.type" not in attributes(refused.attributes)
    assert refused.status.code == Status.STATUS_CODE_UNSET


async def test_a_statement_that_fails_is_an_error(settings: Settings, collector: Collector) -> None:
    """Its kind is the SQLSTATE where the database has one, else the name of the exception."""
    async with traced(settings, collector) as people:
        alice = await people.sign_in("alice")
        await register(people.client, "alice")
        database = parts_of(people.app).database
        async with database.transaction() as transaction:
            await transaction.execute(text("ALTER TABLE items RENAME TO elsewhere"))
        try:
            assert (await alice.get("/items/1")).status_code == 503
        finally:
            async with database.transaction() as transaction:
                await transaction.execute(text("ALTER TABLE elsewhere RENAME TO items"))
        states = {"postgresql": ["23505", "42P01"], "sqlite": ["IntegrityError", "OperationalError"]}
        expected = states[database.engine.dialect.name]
    failed = [collector.statements(collector.request(name))[-1] for name in ("POST /users", "GET /items/{item_id}")]
    assert [attributes(span.attributes)["error.type"] for span in failed] == expected
    assert {span.status.code for span in failed} == {Status.STATUS_CODE_ERROR}


async def test_a_request_of_a_trace_that_is_not_kept_has_no_span(settings: Settings, collector: Collector) -> None:
    """A request whose header is nonsense begins a trace of its own."""
    async with traced(settings, collector) as people:
        await people.client.get("/health/live", headers=NOT_KEPT)
        await people.client.get("/health/live", headers={"traceparent": "nonsense"})
    span = collector.request("GET /health/live")
    assert span.trace_id.hex() != TRACE
    assert not span.parent_span_id


async def test_nothing_that_a_client_sends_is_in_a_span(settings: Settings, collector: Collector) -> None:
    """Passwords, tokens, addresses, queries, headers and paths that are no route's stay out."""
    async with traced(settings, collector) as people:
        client = people.client
        await register(client, "alice", email=f"{CANARY}@example.org", password=CANARY)
        await register(client, "alice", email=f"{CANARY}@example.org", password=CANARY)
        token = (await log_in(client, "alice", password=CANARY)).json()["access_token"]
        alice = await people.sign_in("bob")
        headers = {"User-Agent": CANARY, "Idempotency-Key": CANARY, "baggage": f"a={CANARY}", "Cookie": CANARY}
        await alice.post("/items/", json={"title": CANARY}, headers=headers)
        await alice.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        await alice.get("/items", params={"q": CANARY})
        await alice.get(f"/items?{CANARY}={CANARY}")
        await client.get(f"/{CANARY}?{CANARY}")
        await client.get(f"/items/{CANARY}")
        await client.get(f"/docs/assets/{CANARY}/{CANARY}")
        await client.request(CANARY, "/users/me")
        await client.get("/health/live", headers={"Host": CANARY})
    assert len(collector.requests) == 12
    assert CANARY.lower().encode() not in collector.raw.lower()
    assert token.encode() not in collector.raw
    assert token_of(alice).encode() not in collector.raw


async def test_statements_that_no_request_sends_have_no_span(settings: Settings, collector: Collector) -> None:
    """The worker's statements, which look for jobs every two seconds, would hide the others."""
    async with traced(msgspec.structs.replace(settings, jobs_in_process=True), collector) as people:
        await register(people.client, "alice")
    assert {span.name for span in collector.spans if not span.parent_span_id} == {"POST /users"}


# A collector that is away ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["closed", "silent"])
def dead_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a collector that isn't there, or never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if request.param == "closed":
            silent.close()
        yield f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_a_collector_that_is_away_changes_no_answer_and_keeps_nobody_waiting(
    tmp_path: Path, free_tcp_port: int, dead_endpoint: str
) -> None:
    """The program doesn't wait for the collector when it stops; the SDK by itself would, for more than ten seconds."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": dead_endpoint, "OTEL_BSP_SCHEDULE_DELAY": "10"}
    url = f"http://127.0.0.1:{free_tcp_port}/health/ready"
    with service(tmp_path, free_tcp_port, **variables) as process, httpx.Client() as client:
        for _ in range(100):
            assert client.get(url, timeout=2).status_code == 200
        process.terminate()
        assert process.wait(8) == 0


# Off ------------------------------------------------------------------------------------------------------------------

CHECKS = """
import sys
from app.database.sessions import Database
from app.http.edge import Edge
from app.main import app

database = app.state.database
assert type(database) is Database
assert not database.engine.dialect.dispatch.do_execute
assert type(app.asgi_handler) is Edge
# Where its packages are installed, Litestar looks up four constants.
parts = {name.split(".")[1] for name in sys.modules if name.startswith("opentelemetry.")}
assert parts <= {"semconv"}, parts
assert "app.operations.tracing" not in sys.modules
"""


@pytest.mark.slow
def test_without_the_setting_no_part_of_it_is_there(tmp_path: Path) -> None:
    """There is no layer round the application and no listener on the engine, and OpenTelemetry isn't imported."""
    variables = environment(SECRET_KEY=SECRET, DATABASE_URL=f"sqlite:///{tmp_path}/file.sqlite3")
    subprocess.run([sys.executable, "-c", CHECKS], cwd=tmp_path, env=variables, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter"], ids=["all", "the exporter"])
def test_packages_that_are_missing_are_one_clear_line(tmp_path: Path, missing: str) -> None:
    """The line is on standard error, before anything is migrated."""
    # Python takes a name that is None here for a package that isn't installed.
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{missing!r}] = None")
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    ended = run(tmp_path, "app", SECRET_KEY=SECRET, **traces)
    assert ended.returncode == 1
    expected = "Configuration error: OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of requirements-otel.lock"
    assert ended.stderr.startswith(expected)
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.sqlite3"))
