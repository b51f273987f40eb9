"""The figures at `/metrics`, read as Prometheus reads them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx
import msgspec
import pytest
from httpx import AsyncClient
from litestar import Litestar
from prometheus_client.parser import text_string_to_metric_families

from app.database.models import now
from app.database.replicas import Replicas
from app.database.sessions import Database
from app.jobs.models import Job
from app.jobs.queue import JobQueue
from app.main import create_app
from app.operations.metrics import Metrics, forget_dead_workers, is_alive
from app.security.passwords import Passwords
from app.settings import Settings
from tests.factories import SECRET, client_of, connect_to, on_sqlite
from tests.programs import ROOT


class Figures(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """What a scrape has found."""

    @classmethod
    def of(cls, text: str) -> "Figures":
        families = text_string_to_metric_families(text)
        return cls(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
        )

    def value(self, name: str, **labels: str) -> float:
        """One figure; 0 where there is none."""
        return self.get((name, frozenset(labels.items())), 0)

    def total(self, name: str, **labels: str) -> float:
        """The sum of the figures with these labels, whatever others they have."""
        return sum(value for (key, own), value in self.items() if key == name and labels.items() <= own)


async def scrape(client: AsyncClient) -> Figures:
    return Figures.of((await client.get("/metrics")).text)


@pytest.fixture
def app(settings: Settings) -> Litestar:
    return create_app(msgspec.structs.replace(settings, metrics=True))


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncClient]:
    async with connect_to(app) as client:
        yield client


@on_sqlite
async def test_without_the_setting_there_are_no_metrics(settings: Settings) -> None:
    async with connect_to(create_app(settings)) as client:
        assert (await client.get("/metrics")).status_code == 404


@on_sqlite
async def test_they_are_public_in_prometheus_format_and_no_part_of_the_api(client: AsyncClient) -> None:
    answer = await client.get("/metrics?format=any")
    assert answer.status_code == 200
    assert re.fullmatch(r"text/plain; version=1\.0\.0; charset=utf-8", answer.headers["Content-Type"])
    assert "/metrics" not in (await client.get("/openapi.json")).json()["paths"]


@on_sqlite
async def test_requests_are_counted_by_method_route_and_status(client: AsyncClient) -> None:
    for path in ("/items/1", "/items/2", "/items/3"):
        assert (await client.get(path)).status_code == 401
    await client.head("/items/1")
    await client.get("/health/live")
    figures = await scrape(client)
    assert figures.value("http_requests_total", method="GET", route="/items/{item_id}", status="401") == 3
    assert figures.value("http_requests_total", method="HEAD", route="/items/{item_id}", status="401") == 1
    assert figures.value("http_requests_total", method="GET", route="/health/live", status="200") == 1


@on_sqlite
async def test_durations_are_a_histogram(client: AsyncClient) -> None:
    await client.get("/health/live")
    figures = await scrape(client)
    labels = {"method": "GET", "route": "/health/live"}
    assert figures.value("http_request_duration_seconds_count", **labels) == 1
    assert 0 < figures.value("http_request_duration_seconds_sum", **labels) < 10
    assert figures.value("http_request_duration_seconds_bucket", **labels, le="+Inf") == 1


@on_sqlite
async def test_nothing_that_a_client_invents_becomes_a_label(client: AsyncClient) -> None:
    for number in range(5):
        await client.get(f"/secret-{number}")
        await client.request(f"VERB{number}", "/items/")
        await client.request(f"VERB{number}", "/nowhere")
    text = (await client.get("/metrics")).text
    assert "secret" not in text
    assert "VERB" not in text
    figures = Figures.of(text)
    assert figures.value("http_requests_total", method="GET", route="none", status="404") == 5
    assert figures.total("http_requests_total", method="other") == 10


@on_sqlite
async def test_the_request_being_served_is_in_flight(client: AsyncClient) -> None:
    for _ in range(3):
        await client.get("/health/live")
    assert (await scrape(client)).value("http_requests_in_flight") == 1


def metrics_of(database: Database) -> Metrics:
    """The figures of an application that isn't there."""
    jobs, replicas = JobQueue(database).jobs, Replicas(database, [], primary_seconds=5)
    return Metrics(database, jobs, Passwords(), replicas)


@on_sqlite
async def test_a_client_that_leaves_before_its_answer_is_counted(settings: Settings) -> None:
    metrics = metrics_of(Database(settings.database_url))
    metrics.arrived()
    metrics.answered("GET", "/items", 0, 0.1)
    figures = Figures.of(metrics.render().decode())
    assert figures.value("http_requests_total", method="GET", route="/items", status="499") == 1
    assert figures.value("http_requests_in_flight") == 0


async def test_the_pool_and_the_queue_of_hashes_are_shown(app: Litestar, client: AsyncClient) -> None:
    database: Database = app.state.database
    before = await scrape(client)
    assert before.value("db_pool_size") > 0
    assert before.value("db_pool_in_use") == 0
    assert before.value("password_hashes_pending") == 0
    async with database.engine.connect():
        assert (await scrape(client)).value("db_pool_in_use") == 1


async def test_jobs_are_counted_by_state(app: Litestar, client: AsyncClient) -> None:
    database: Database = app.state.database
    earlier = (await scrape(client)).total("jobs")
    queue = JobQueue(database)
    async with database.transaction() as session:
        await queue.enqueue(session, "test", {})
        await queue.enqueue(session, "test", {}, run_at=now().replace(year=now().year + 1))
        for _ in range(2):
            session.add(Job(kind="test", payload={}, run_at=now(), failed_at=now()))
    figures = await scrape(client)
    assert figures.total("jobs") == earlier + 4
    assert figures.value("jobs", state="due") == 1
    assert figures.value("jobs", state="dead") == 2


@on_sqlite
async def test_metrics_answer_while_the_database_is_away(settings: Settings, tmp_path: Path) -> None:
    away = msgspec.structs.replace(settings, metrics=True, database_url=f"sqlite:///{tmp_path}/missing/file.sqlite3")
    async with client_of(create_app(away)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert "http_requests_in_flight 1.0" in answer.text


@on_sqlite
async def test_logins_are_counted_by_outcome(settings: Settings) -> None:
    metrics = metrics_of(Database(settings.database_url))
    for outcome in ("success", "failure", "failure"):
        metrics.count_login(outcome)
    figures = Figures.of(metrics.render().decode())
    assert figures.value("logins_total", outcome="success") == 1
    assert figures.value("logins_total", outcome="failure") == 2


@on_sqlite
async def test_two_applications_in_a_process_count_apart(client: AsyncClient, settings: Settings) -> None:
    for _ in range(3):
        await client.get("/health/live")
    async with connect_to(create_app(msgspec.structs.replace(settings, metrics=True))) as other:
        assert (await scrape(other)).total("http_requests_total") == 0
    assert (await scrape(client)).total("http_requests_total") == 3


# Several workers -----------------------------------------------------------------------------------------------------


@contextmanager
def service(folder: Path, workers: int) -> Iterator[tuple[str, int]]:
    """The service as an operator starts it: its address and the id of its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "SECRET_KEY": SECRET,
        "DATABASE_URL": f"sqlite:///{folder / 'service.sqlite3'}",
        "PORT": str(port),
        "WORKERS": str(workers),
        "METRICS": "true",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "app"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(url))
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/metrics").is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline
        sleep(0.1)


def scrape_service(url: str) -> Figures:
    return Figures.of(httpx.get(f"{url}/metrics").text)


def files_of(folder: Path, kind: str) -> dict[int, Path]:
    """The files of one kind in which workers count, by the process that they belong to."""
    return {int(path.stem.rpartition("_")[2]): path for path in folder.glob(f"metrics-*/{kind}_*.db")}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_whichever_worker_is_scraped_tells_the_sum_of_all(tmp_path: Path) -> None:
    with service(tmp_path, workers=2) as (url, _):
        wait_until(lambda: answers(url) and len(files_of(tmp_path, "counter")) == 2)
        before = scrape_service(url).total("http_requests_total", route="/health/ready")
        for _ in range(40):  # each on a connection of its own
            httpx.get(f"{url}/health/ready")
        # A request is counted when its answer has been sent, and the client may have it a moment before.
        wait_until(lambda: scrape_service(url).value("http_requests_in_flight") == 1)
        for _ in range(10):
            figures = scrape_service(url)
            assert figures.total("http_requests_total", route="/health/ready", status="200") == before + 40
            assert figures.total("http_request_duration_seconds_count", route="/health/ready") == before + 40
            assert figures.value("db_pool_in_use") == 0
        killed = next(iter(files_of(tmp_path, "counter")))
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: answers(url) and killed not in files_of(tmp_path, "gauge_livesum"))
        wait_until(lambda: answers(url) and len(files_of(tmp_path, "counter")) == 3)  # another has taken its place
        assert scrape_service(url).total("http_requests_total", route="/health/ready") == before + 40
    assert not list(tmp_path.glob("metrics-*"))


def test_the_gauges_of_a_dead_worker_are_dropped(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    for pid in (process.pid, os.getpid()):
        for kind in ("gauge_livesum", "gauge_mostrecent", "counter", "histogram"):
            (tmp_path / f"{kind}_{pid}.db").touch()
    forget_dead_workers(tmp_path)
    gone = {f"gauge_livesum_{process.pid}.db"}
    assert len(list(tmp_path.iterdir())) == 7
    assert not gone & {path.name for path in tmp_path.iterdir()}
    assert is_alive(os.getpid())
