"""Start the servers that are compared, each as it ships, with one worker and its log in a file."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks import processes
from benchmarks.database import PROJECT, PROJECT_PYTHON, free_port
from benchmarks.passwords import PASSWORD

SECRET_KEY = os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(48))
START_SECONDS = 30


class Failed(Exception):
    """A server didn't start, or a request wasn't answered with 2xx: nothing was measured."""


@dataclass(frozen=True)
class Server:
    """A server's command, in which `{port}` is replaced, its environment, and the folder that it runs in."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = PROJECT


UVICORN = (sys.executable, "-m", "uvicorn", "--port", "{port}")

limit = Server("limit", (*UVICORN, "--no-access-log", "benchmarks.limit:app"))
project = Server("project", (PROJECT_PYTHON, "-m", "app"), {"WORKERS": "1"})
tickets = Server("tickets", (*UVICORN, "benchmarks.tickets:app"))


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    server: Server
    database_url: str
    pid: int
    url: str
    start_seconds: float
    start_cpu: float

    def log_in(self, username: str) -> str:
        """Return an access token."""
        form = {"username": username, "password": PASSWORD}
        answer = httpx.post(f"{self.url}/token", data=form).raise_for_status()
        token: str = answer.json()["access_token"]
        return token


@contextmanager
def running(server: Server, database_url: str) -> Iterator[Running]:
    port = free_port()
    command = [part.format(port=port) for part in server.command]
    environment = os.environ | {
        "SECRET_KEY": SECRET_KEY,
        "DATABASE_URL": database_url,
        "ENVIRONMENT": "production",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        **server.environment,
    }
    with tempfile.TemporaryFile(prefix=f"{server.name}-") as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=server.folder, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            if not _live(process, url):
                log.seek(0)
                raise Failed(f"{server.name} did not start:\n{log.read().decode()}")
            seconds = time.perf_counter() - started
            yield Running(server, database_url, process.pid, url, seconds, processes.cpu_seconds(process.pid))
        finally:
            processes.stop(process)


def _live(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server answers; return False when it has ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client() as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.get(f"{url}/health/live").status_code == httpx.codes.OK:
                    return True
            except httpx.TransportError:
                time.sleep(0.005)
    return False
