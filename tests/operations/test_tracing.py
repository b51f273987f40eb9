"""Traces, as a collector receives them by OTLP."""

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
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from sqlalchemy import text

from app.database.sessions import Database
from app.items.service import ItemService
from app.main import create_app
from app.settings import Settings
from tests.collector import Collector, attributes, running
from tests.factories import SECRET, People, Statements, connect_to, create_item, log_in, register, token_of
from tests.problems import assert_problem
from tests.programs import ROOT, environment, run, service

CANARY = "canary-3b9f-Qz7xT2"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
KEPT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
NOT_KEPT = {"traceparent": f"00-{TRACE}-{CALLER}-00"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    with running() as collector:
        yield collector


def settings_with(settings: Settings, endpoint: str) -> Settings:
    """The settings of an application whose traces are on."""
    return msgspec.structs.replace(settings, otel_exporter_otlp_endpoint=endpoint)


@asynccontextmanager
async def traced(settings: Settings, collector: Collector) -> AsyncIterator[People]:
    """An application whose traces are on; at the end of the block, the collector has them."""
    app = create_app(settings_with(settings, collector.url))
    async with connect_to(app) as client:
        yield People(app, client)


# Spans ----------------------------------------------------------------------------------------------------------------


def test_the_program_sends_a_span_for_each_request_and_its_statements(
    tmp_path: Path, free_tcp_port: int, database_url: str, collector: Collector
) -> None:
    """They are there when it has stopped, within the caller's trace, and the log names them."""
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


async def test_a_request_has_the_attributes_of_the_conventions(settings: Settings, collector: Collector) -> None:
    """Those that are required and hold nothing of the client's making."""
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
    """Those of the hot path, which the driver runs itself, and those of SQLAlchemy's sessions, each once."""
    async with traced(settings, collector) as people:
        alice = await people.sign_in("alice")
        await create_item(alice)
        with Statements.of(people.app) as sent:
            await alice.patch("/items/1", json={"title": CANARY})
        system = people.app.state.database.engine.dialect.name
    spans = collector.statements(collector.request("PATCH /items/{item_id}"))
    facts = [attributes(span.attributes) for span in spans if span.name != "BEGIN"]  # SQLite's, which `sent` names so
    assert [fact["db.query.text"] for fact in facts] == [sql for sql in sent if sql not in {"BEGIN", "COMMIT"}]
    assert [fact["db.operation.name"] for fact in facts] == ["SELECT", "SELECT", "UPDATE"]
    assert {fact["db.system.name"] for fact in facts} == {system}


async def test_head_and_invented_methods_are_named_as_the_conventions_want(
    settings: Settings, collector: Collector
) -> None:
    """HEAD is itself although GET's handler answers it; what is no method of HTTP has one name."""
    async with traced(settings, collector) as people:
        await people.client.head("/health/live")
        await people.client.request("BREW", "/health/live")
    assert attributes(collector.request("HEAD /health/live").attributes)["http.request.method"] == "HEAD"
    assert attributes(collector.request("HTTP").attributes)["http.request.method"] == "_OTHER"


async def test_a_fault_of_the_service_is_an_error(
    settings: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's mistake isn't."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr(ItemService, "read", fail)
    async with traced(settings, collector) as people:
        alice = await people.sign_in("alice")
        assert_problem(await alice.get("/items/1"), 500)
        assert_problem(await people.client.get("/users/me"), 401)
    broken, refused = collector.request("GET /items/{item_id}"), collector.request("GET /users/me")
    assert attributes(broken.attributes)["error.type"] == "500"
    assert broken.status.code == Status.STATUS_CODE_ERROR
    assert attributes(refused.attributes)["http.response.status_code"] == 401
    assert "error.type" not in attributes(refused.attributes)
    assert refused.status.code == Status.STATUS_CODE_UNSET


async def test_a_statement_that_fails_is_an_error(settings: Settings, collector: Collector) -> None:
    """By its SQLSTATE where the database has one; the hot path's as the others."""
    async with traced(settings, collector) as people:
        alice = await people.sign_in("alice")
        await register(people.client, "alice")
        database: Database = people.app.state.database
        async with database.transaction() as session:
            await session.execute(text("ALTER TABLE items RENAME TO elsewhere"))
        try:
            assert (await alice.get("/items/1")).status_code == 503
        finally:
            async with database.transaction() as session:
                await session.execute(text("ALTER TABLE elsewhere RENAME TO items"))
        states = {"postgresql": ["23505", "42P01"], "sqlite": ["IntegrityError", "OperationalError"]}
        expected = states[database.engine.dialect.name]
    failed = [collector.statements(collector.request(name))[-1] for name in ("POST /users", "GET /items/{item_id}")]
    assert [attributes(span.attributes)["error.type"] for span in failed] == expected
    assert {span.status.code for span in failed} == {Status.STATUS_CODE_ERROR}


async def test_the_caller_says_whether_its_trace_is_kept(settings: Settings, collector: Collector) -> None:
    """And a header that is nonsense begins a trace of its own."""
    async with traced(settings, collector) as people:
        await people.client.get("/health/live", headers=NOT_KEPT)
        await people.client.get("/health/live", headers={"traceparent": "nonsense"})
    span = collector.request("GET /health/live")
    assert span.trace_id.hex() != TRACE
    assert not span.parent_span_id


async def test_nothing_that_a_client_sends_is_in_a_span(settings: Settings, collector: Collector) -> None:
    """No password, token, address or query, and no path that isn't a route's but for ids."""
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


async def test_what_no_request_sends_is_no_span(settings: Settings, collector: Collector) -> None:
    """A worker asks for jobs every two seconds, which nobody wants to read."""
    async with traced(msgspec.structs.replace(settings, jobs_in_process=True), collector) as people:
        await register(people.client, "alice")
    assert {span.name for span in collector.spans if not span.parent_span_id} == {"POST /users"}


# A collector that is away ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["closed", "silent"])
def dead_end(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a collector that isn't there, or never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if request.param == "closed":
            silent.close()
        yield f"http://127.0.0.1:{port}"


def test_a_collector_that_is_away_changes_no_answer_and_keeps_nobody_waiting(
    tmp_path: Path, free_tcp_port: int, dead_end: str
) -> None:
    """Nor does the program wait for it when it stops: the SDK by itself would, for ten seconds and more."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": dead_end, "OTEL_BSP_SCHEDULE_DELAY": "10"}
    url = f"http://127.0.0.1:{free_tcp_port}/health/ready"
    with service(tmp_path, free_tcp_port, **variables) as process, httpx.Client() as client:
        for _ in range(100):
            assert client.get(url, timeout=2).status_code == 200
        process.terminate()
        assert process.wait(8) == 0


# Off ------------------------------------------------------------------------------------------------------------------

LOOK = """
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


def test_without_the_setting_nothing_is_there(tmp_path: Path) -> None:
    """No layer round the application, no listener on the engine, and nothing of OpenTelemetry's is imported."""
    variables = environment(SECRET_KEY=SECRET, DATABASE_URL=f"sqlite:///{tmp_path}/file.sqlite3")
    subprocess.run([sys.executable, "-c", LOOK], cwd=tmp_path, env=variables, check=True)


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter"], ids=["all", "the exporter"])
def test_packages_that_are_missing_are_one_clear_line(tmp_path: Path, missing: str) -> None:
    """On standard error, before anything is migrated."""
    # Python takes a name that is None here for a package that isn't installed.
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{missing!r}] = None")
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    ended = run(tmp_path, "app", SECRET_KEY=SECRET, **traces)
    assert ended.returncode == 1
    expected = "Configuration error: OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of requirements-otel.lock"
    assert ended.stderr.startswith(expected)
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.sqlite3"))
