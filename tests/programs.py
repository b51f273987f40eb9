"""Runs the project's programs as processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec

from app.settings import Settings

ROOT = Path(__file__).parent.parent
POOLED = "TEST_POOLED_URL"
"""The variable that says where PgBouncer is, when the tests go through it."""
LONGEST_SECONDS = 180
STOP_SECONDS = 15


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of these tests with no setting of the service in it but these."""
    known = {field.encode_name for field in msgspec.structs.fields(Settings)}
    inherited = {name: value for name, value in os.environ.items() if name not in known}
    pooler = {"DATABASE_POOLER": "true"} if os.environ.get(POOLED) else {}
    return inherited | {"PYTHONPATH": str(ROOT)} | pooler | variables


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` in a folder until it ends."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def alembic(folder: Path, *arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic on a database until it ends."""
    return run(folder, "alembic", "-c", str(ROOT / "alembic.ini"), *arguments, DATABASE_URL=url)


@contextmanager
def service(folder: Path, port: int, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run the service and wait until it is ready; what it prints goes to `out` in its folder."""
    with service_printing_to(None, folder, port, *arguments, **variables) as process:
        yield process


@contextmanager
def service_printing_to(
    stdout: int | None, folder: Path, port: int, *arguments: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run the service with another standard output, unless that is None; the rest goes to `out`."""
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=folder,
            env=environment(PORT=str(port), **variables),
            stdout=out if stdout is None else stdout,
            stderr=out,
            text=True,
            start_new_session=True,
        )
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready")
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a process that leads a session, and every process that it started: an orphan would do another test's jobs."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
    """Return when the service answers; fail when it has ended, or takes too long."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"{url} did not answer")
