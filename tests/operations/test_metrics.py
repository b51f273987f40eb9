"""The figures at `/metrics`, read as Prometheus reads them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import httpx
import msgspec
import pytest
from httpx import AsyncClient
from litestar import Litestar, get
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from app.database.models import now
from app.database.sessions import Database
from app.http.access import PUBLIC
from app.http.feature import Feature, Parts
from app.jobs.models import Job
from app.main import FEATURES, create_app
from app.operations.metrics import forget_dead_workers
from app.settings import Settings
from tests.factories import SECRET, add_user, client_of, connect_to, log_in, on_sqlite
from tests.problems import assert_problem
from tests.programs import service


class Figures(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The samples of a scrape, by their names and labels."""

    @classmethod
    def of(cls, text: str) -> "Figures":
        """Parse Prometheus' text format."""
        families = text_string_to_metric_families(text)
        return cls(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
        )

    def value(self, name: str, **labels: str) -> float:
        """Return one figure; 0 where there is none."""
        return self.get((name, frozenset(labels.items())), 0)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the figures with these labels, whatever others they have."""
        return sum(value for (key, own), value in self.items() if key == name and labels.items() <= own)


async def scrape(client: AsyncClient) -> Figures:
    """Return the figures of an application."""
    return Figures.of((await client.get("/metrics")).text)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of an application whose metrics are on."""
    return msgspec.structs.replace(settings, metrics=True)


@pytest.fixture
def app(settings: Settings) -> Litestar:
    """An application of the test's own, whose figures begin at zero."""
    return create_app(settings)


@on_sqlite
async def test_without_the_setting_there_are_no_metrics(settings: Settings) -> None:
    async with connect_to(create_app(msgspec.structs.replace(settings, metrics=False))) as client:
        assert (await client.get("/metrics")).status_code == 404


@on_sqlite
async def test_they_are_public_in_prometheus_format_and_no_part_of_the_api(client: AsyncClient) -> None:
    answer = await client.get("/metrics?format=any")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=1.0.0; charset=utf-8"
    assert "/metrics" not in (await client.get("/openapi.json")).json()["paths"]


@on_sqlite
@pytest.mark.parametrize("path", ["/metrics/", "/%6Detrics", "/metrics%2F"])
async def test_another_way_to_write_the_path_is_404(client: AsyncClient, path: str) -> None:
    """A proxy that bars `/metrics` by an exact rule would let it through."""
    assert_problem(await client.get(path), 404, "There is nothing at this path")


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
    assert figures.value("http_request_duration_seconds_sum", **labels) > 0
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


@get("/hang", opt=PUBLIC)
async def hang() -> None:
    """Never answer."""
    await asyncio.Event().wait()


@on_sqlite
async def test_a_client_that_leaves_before_its_answer_is_counted(settings: Settings) -> None:
    def feature(_parts: Parts) -> Feature:
        return Feature(routes=[hang])

    async with connect_to(create_app(settings, [*FEATURES, feature])) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get("/hang"), 0.1)
        figures = await scrape(client)
    assert figures.value("http_requests_total", method="GET", route="/hang", status="499") == 1
    assert figures.value("http_requests_in_flight") == 1  # the scrape itself


async def test_the_pool_and_the_queue_of_hashes_are_shown(client: AsyncClient, database: Database) -> None:
    before = await scrape(client)
    assert before.value("db_pool_size") > 0
    assert before.value("db_pool_in_use") == 0
    assert before.value("password_hashes_pending") == 0
    async with database.engine.connect():
        assert (await scrape(client)).value("db_pool_in_use") == 1


async def test_jobs_are_counted_by_state(client: AsyncClient, parts: Parts) -> None:
    earlier = (await scrape(client)).total("jobs")
    async with parts.database.transaction() as transaction:
        await parts.jobs.enqueue(transaction, "test", {})
        await parts.jobs.enqueue(transaction, "test", {}, run_at=now().replace(year=now().year + 1))
        for _ in range(2):
            transaction.add(Job(kind="test", payload={}, run_at=now(), failed_at=now()))
    figures = await scrape(client)
    assert figures.total("jobs") == earlier + 4
    assert figures.value("jobs", state="due") == 1
    assert figures.value("jobs", state="dead") == 2


@on_sqlite
async def test_metrics_answer_while_the_database_is_away(settings: Settings, tmp_path: Path) -> None:
    away = msgspec.structs.replace(settings, database_url=f"sqlite:///{tmp_path}/missing/file.sqlite3")
    async with client_of(create_app(away)) as client:
        with capture_logs() as logs:
            answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert {"event": "jobs_not_counted", "log_level": "warning", "cause": "OperationalError"} in logs
    assert "http_requests_in_flight 1.0" in answer.text


@on_sqlite
async def test_logins_are_counted_by_outcome(app: Litestar, client: AsyncClient) -> None:
    await add_user(app, "alice")
    await log_in(client, "alice")
    for _ in range(2):
        await log_in(client, "alice", password="wrong")
    figures = await scrape(client)
    assert figures.value("logins_total", outcome="success") == 1
    assert figures.value("logins_total", outcome="failure") == 2


@on_sqlite
async def test_two_applications_in_a_process_count_apart(client: AsyncClient, settings: Settings) -> None:
    for _ in range(3):
        await client.get("/health/live")
    async with connect_to(create_app(settings)) as other:
        assert (await scrape(other)).total("http_requests_total") == 0
    assert (await scrape(client)).total("http_requests_total") == 3


# Several workers -----------------------------------------------------------------------------------------------------


def answers(url: str) -> bool:
    """Return whether a worker answers."""
    try:
        return httpx.get(f"{url}/metrics").is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; fail after a minute."""
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def scrape_service(url: str) -> Figures:
    """Return the figures of a program."""
    return Figures.of(httpx.get(f"{url}/metrics").text)


def files_of(folder: Path, kind: str) -> dict[int, Path]:
    """Return the files of one kind in which workers count, by the process that they belong to."""
    return {int(path.stem.rpartition("_")[2]): path for path in folder.glob(f"metrics-*/{kind}_*.db")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_whichever_worker_is_scraped_tells_the_sum_of_all(tmp_path: Path, free_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{free_tcp_port}"
    variables = {"SECRET_KEY": SECRET, "WORKERS": "2", "METRICS": "true", "TMPDIR": str(tmp_path)}
    with service(tmp_path, free_tcp_port, **variables):
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
        # The worker of the jobs takes a connection now and then.
        wait_until(lambda: scrape_service(url).value("db_pool_in_use") == 0)
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
    before = {path.name for path in tmp_path.iterdir()}
    forget_dead_workers(tmp_path)
    assert before - {path.name for path in tmp_path.iterdir()} == {f"gauge_livesum_{process.pid}.db"}
