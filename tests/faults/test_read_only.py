"""A system on which nothing can be written, not even in /tmp."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.factories import PASSWORD, SECRET
from tests.programs import end, environment, free_port, wait_until_ready

READ_ONLY = """
mount --make-rprivate / && mount -o remount,bind,ro / && cd "$0" && ! touch file 2>/dev/null && exec "$@"
"""
pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="root alone may mount"),
]


def start(folder: Path, port: int, **variables: str) -> subprocess.Popen[str]:
    """Start the service as in production, with everything read-only around it."""
    settings = {"ENVIRONMENT": "production", "SECRET_KEY": SECRET, "PORT": str(port)}
    return subprocess.Popen(
        ["/usr/bin/unshare", "--mount", "sh", "-c", READ_ONLY, str(folder), sys.executable, "-m", "app"],
        env=environment(**(settings | variables)),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.usefixtures("anyio_backend")
def test_it_serves_where_nothing_can_be_written(postgresql_url: str, tmp_path: Path) -> None:
    """A service on PostgreSQL needs no file at all."""
    port = free_port()
    process = start(tmp_path, port, DATABASE_URL=postgresql_url)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready")
        body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
        assert httpx.post(f"http://127.0.0.1:{port}/users/", json=body).status_code == 201
    finally:
        end(process)
    assert (process.returncode, process.communicate()[1]) == (0, "")


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"DRAIN_SECONDS": "5"}, "Configuration error: DRAIN_SECONDS needs a folder for temporary files"),
        ({"METRICS": "true", "WORKERS": "2"}, "Configuration error: METRICS with several WORKERS needs a folder"),
        ({"DATABASE_URL": "sqlite:///file"}, "The database of DATABASE_URL can't be reached: unable to open"),
        (
            {"ENVIRONMENT": "", "SECRET_KEY": ""},
            "Configuration error: SECRET_KEY is not set, and .env can't be written",
        ),
    ],
)
def test_what_needs_a_file_says_so_in_one_line(tmp_path: Path, variables: dict[str, str], line: str) -> None:
    process = start(tmp_path, free_port(), **variables)
    error = process.communicate(timeout=60)[1]
    assert error.startswith(line)
    assert (process.returncode, error.count("\n")) == (1, 1)
