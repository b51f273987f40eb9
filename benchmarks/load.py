"""Load one route with wrk, and measure what that costs the server and the database."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from benchmarks import processes
from benchmarks.database import Postgres
from benchmarks.servers import Failed, Running

SCRIPT = Path(__file__).with_name("load.lua")
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True)
class Plan:
    """The database server of all measurements, and how often and how long each is taken."""

    postgres: Postgres
    rounds: int
    seconds: float


@dataclass(frozen=True)
class Request:
    """The request that each connection sends again and again."""

    path: str
    method: str = "GET"
    body: str = ""
    media_type: str = JSON
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Outcome(msgspec.Struct):
    """The line that `load.lua` prints; times are in microseconds."""

    requests: int
    duration: int
    p50: int
    p99: int
    not_2xx: int
    broken: int


@dataclass(frozen=True)
class Sample:
    """One run: CPU in milliseconds per request, requests per second, latencies in milliseconds."""

    cpu: float
    database_cpu: float
    rate: float
    p50: float
    p99: float


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        sys.exit("The benchmarks need wrk: apt-get install wrk")


def probe(server: Running, request: Request) -> httpx.Response:
    """Send a request once. Raise Failed unless it succeeds: wrk takes a redirect for a success."""
    headers = request.headers | {"Content-Type": request.media_type}
    answer = httpx.request(request.method, server.url + request.path, content=request.body, headers=headers)
    if not answer.is_success:
        raise Failed(f"{request.method} {request.path}: {answer.status_code} {answer.text}")
    return answer


def start(server: Running, request: Request, *, connections: int, seconds: float) -> subprocess.Popen[str]:
    command = ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds:.0f}s"]
    command += ["--timeout=30s", f"--script={SCRIPT}"]
    command += [f"--header={name}: {value}" for name, value in request.headers.items()]
    command += [server.url + request.path, "--", request.method]
    command += [request.body, request.media_type] if request.body else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(wrk: subprocess.Popen[str]) -> Outcome:
    output, _ = wrk.communicate()
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise Failed(f"wrk gave no result: {output}")
    outcome = msgspec.json.decode(lines[0], type=Outcome)
    if outcome.not_2xx or outcome.broken:
        raise Failed(f"{outcome} of {wrk.args!r}")
    return outcome


def measure(server: Running, plan: Plan, request: Request, *, connections: int) -> Sample:
    """Warm up for a second, then load, and read the CPU clocks before and after."""
    probe(server, request)
    finish(start(server, request, connections=connections, seconds=1))
    pids = server.pid, plan.postgres.pid
    before = [processes.cpu_seconds(pid) for pid in pids]
    outcome = finish(start(server, request, connections=connections, seconds=plan.seconds))
    if not outcome.requests:
        raise Failed(f"{request.method} {request.path}: no answer in {plan.seconds} s")
    after = [processes.cpu_seconds(pid) for pid in pids]
    cpu, database_cpu = [(end - begin) / outcome.requests * 1e3 for begin, end in zip(before, after, strict=True)]
    return Sample(
        cpu=cpu,
        database_cpu=database_cpu,
        rate=outcome.requests / outcome.duration * 1e6,
        p50=outcome.p50 / 1e3,
        p99=outcome.p99 / 1e3,
    )
