"""The metrics that Prometheus reads at `/metrics`, where METRICS is set: requests, connections, hashes, logins, jobs.

Each application counts in a registry of its own. Where several workers share a port, a scrape reaches one of them. Each
then counts in its own files in a directory that they share, and the one that is scraped adds all files up.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import structlog
from litestar import Request, Response, get
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from app.database.replicas import Replicas
from app.database.sessions import Database
from app.errors import NotFound
from app.http.access import LENIENT, PUBLIC
from app.http.feature import Parts
from app.http.requests import Provided
from app.jobs.repository import JobRepository
from app.security.passwords import Passwords

log = structlog.stdlib.get_logger("metrics")
PATH = "/metrics"
CLIENT_GONE = 499
"""The status that is counted where no answer was begun, since the client had left; web servers log it, too."""
DURATION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LOGINS = {"login": "success", "login_failed": "failure", "login_limited": "limited"}
"""The outcome of a login that each of these security events tells."""


class Instruments:
    """The counters and gauges of one application, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter("http_requests", "Requests answered.", ["method", "route", "status"], registry=registry)
        self.durations = Histogram(
            "http_request_duration_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["method", "route"],
            buckets=DURATION_SECONDS,
            registry=registry,
        )
        self.logins = Counter("logins", "Attempts to sign in.", ["outcome"], registry=registry)
        self.in_flight = live_gauge("http_requests_in_flight", "Requests that have no answer yet.", registry)
        self.pool_size = live_gauge("db_pool_size", "Connections that the pools may keep open.", registry)
        self.pool_in_use = live_gauge("db_pool_in_use", "Connections that are at work.", registry)
        self.replica_ready = Gauge(
            "db_replica_ready",
            "Whether a standby is complete enough to be read from: 1 when every process finds it so, else 0.",
            ["replica"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.hashes = live_gauge("password_hashes_pending", "Passwords at or waiting for a hash.", registry)
        self.jobs = Gauge(
            "jobs",
            "Jobs by state: due now; waiting for their time, their next attempt or the end of this one; dead letters.",
            ["state"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )


class Metrics(Instruments):
    """The metrics of one application: they observe its requests and logins, and sample its pools and jobs."""

    def __init__(
        self,
        database: Database,
        jobs: JobRepository,
        passwords: Passwords,
        replicas: Replicas,
        *,
        directory: str = "",
    ) -> None:
        """Observe the parts; several workers share their counts through `directory`, which is empty for one."""
        super().__init__(CollectorRegistry())
        self.database = database
        self.job_repository = jobs
        self.replicas = replicas
        replicas.observers.append(self.sample)
        self.passwords = passwords
        self.directory = directory

    def arrived(self) -> None:
        """Count a request that has arrived."""
        self.in_flight.inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer, and its time; `route` is the template of the path, empty where no route matched."""
        self.in_flight.dec()
        route = route or "none"
        self.requests.labels(method, route, status or CLIENT_GONE).inc()
        self.durations.labels(method, route).observe(seconds)
        if self.directory:  # The next scrape may reach another worker.
            self.sample()

    def count_event(self, event: str) -> None:
        """Count a security event by its type, if it is a login's."""
        if outcome := LOGINS.get(event):
            self.logins.labels(outcome).inc()

    def sample(self) -> None:
        """Set the gauges of this process: connections, standbys and hashes."""
        pool = self.database.engine.pool
        if isinstance(pool, QueuePool):
            self.pool_size.set(pool.size())
            self.pool_in_use.set(pool.checkedout())
        for standby in self.replicas.standbys:
            self.replica_ready.labels(standby.name).set(self.replicas.is_ready(standby))
        self.hashes.set(self.passwords.pending)

    async def count_jobs(self) -> None:
        """Set the gauges of jobs; they keep their values while the database is unreachable."""
        try:
            counts = await self.job_repository.count_by_state()
        except (SQLAlchemyError, OSError) as error:
            log.warning("jobs_not_counted", cause=type(error).__name__)
            return
        for state, count in counts._asdict().items():
            self.jobs.labels(state).set(count)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format, with those of the other workers added."""
        if not self.directory:
            return generate_latest(self.registry)
        forget_dead_workers(Path(self.directory))
        total = CollectorRegistry()
        MultiProcessCollector(total, self.directory)  # type: ignore[no-untyped-call] # the library has no types here
        return generate_latest(total)


def create_metrics(parts: Parts) -> Metrics:
    """Return the metrics, and have them count logins."""
    directory = parts.settings.prometheus_multiproc_dir
    metrics = Metrics(parts.database, parts.jobs.jobs, parts.passwords, parts.replicas, directory=directory)
    parts.events.observers.append(metrics.count_event)
    return metrics


def live_gauge(name: str, help_text: str, registry: CollectorRegistry) -> Gauge:
    """Return a gauge whose values are added up over the workers that are alive."""
    return Gauge(name, help_text, multiprocess_mode="livesum", registry=registry)


def forget_dead_workers(directory: Path) -> None:
    """Delete the gauges of workers that have ended, even if they were killed; their counters are kept."""
    for file in directory.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not is_alive(pid):
            # Left to its users: https://github.com/prometheus/client_python/issues/115, closed as intended.
            mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call] # the library has no types here


def is_alive(pid: int) -> bool:
    """Return whether a process is alive; on Windows return True, since the check would end the process there."""
    if sys.platform != "win32":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


@get(PATH, opt=PUBLIC | LENIENT, include_in_schema=False)
async def read_metrics(request: Request[Any, Any, Any], metrics: Provided[Metrics]) -> Response[bytes]:
    """Return the metrics. The route is public, as Prometheus expects; a proxy in front must bar others from it.

    Raise NotFound for every other way to write the path, `/metrics/` say, which a proxy's rule may not match.
    """
    if request.scope["raw_path"] != PATH.encode():
        raise NotFound("There is nothing at this path")
    metrics.sample()
    await metrics.count_jobs()
    return Response(await asyncio.to_thread(metrics.render), headers={"Content-Type": CONTENT_TYPE_LATEST})
