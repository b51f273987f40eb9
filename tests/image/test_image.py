"""The image and the compose file, run by Docker's engine as docs/operating.md says; `just test-image` prepares it."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import httpx
import pytest

from tests.factories import PASSWORD
from tests.programs import ROOT, free_port

pytestmark = pytest.mark.image

IMAGE = "backend-api"
LONGEST_SECONDS = 180
GRACE_SECONDS = 40
ACCOUNT = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
LOGIN = {"username": "alice", "password": PASSWORD}
CONFINED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--init"]
"""What compose.yaml gives an instance."""


def docker(*arguments: str, **variables: str) -> str:
    """Run a command of Docker's until it ends well, and return what it printed."""
    ended = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, f"{arguments}\n{ended.stdout}{ended.stderr}"
    return ended.stdout.strip()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when a condition holds; fail when it takes too long."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """Build the image of this checkout."""
    docker("build", "--tag", IMAGE, ".")


@pytest.fixture
def volume() -> Iterator[str]:
    """An empty volume."""
    name = f"test-{token_hex(4)}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", name)


@contextmanager
def instance(volume: str) -> Iterator[tuple[str, str]]:
    """Run an instance on an SQLite database in a volume; give its name and its URL."""
    name, port = f"test-{token_hex(4)}", free_port()
    url = f"http://127.0.0.1:{port}"
    options = [
        *("--detach", f"--name={name}", f"--publish=127.0.0.1:{port}:8000", f"--volume={volume}:/data"),
        *(f"--env=SECRET_KEY={token_hex(32)}", f"--env=PUBLIC_URL={url}"),
    ]
    docker("run", *options, *CONFINED, IMAGE)
    try:
        yield name, url
    finally:
        docker("rm", "--force", name)


def state(name: str) -> dict[str, Any]:
    """Return what Docker says about a container."""
    found: dict[str, Any] = json.loads(docker("inspect", "--format={{json .State}}", name))
    return found


def is_healthy(name: str) -> bool:
    """Return whether the image's own health check has succeeded."""
    now = state(name)
    assert now["Status"] == "running", docker("logs", name)
    return bool(now["Health"]["Status"] == "healthy")


def test_an_instance_migrates_serves_stops_in_time_and_keeps_its_data(volume: str) -> None:
    with instance(volume) as (name, url):
        wait_until(lambda: is_healthy(name), "the health check fails")
        assert httpx.get(f"{url}/health/ready").status_code == 200
        assert httpx.post(f"{url}/users/", json=ACCOUNT).status_code == 201
        docker("stop", f"--time={GRACE_SECONDS}", name)
        assert state(name)["ExitCode"] == 0
        docker("start", name)
        wait_until(lambda: is_healthy(name), "the health check fails after a restart")
        assert httpx.post(f"{url}/token", data=LOGIN).status_code == 200


def test_a_new_instance_finds_the_data_of_the_one_before(volume: str) -> None:
    with instance(volume) as (name, url):
        wait_until(lambda: is_healthy(name), "the health check fails")
        assert httpx.post(f"{url}/users/", json=ACCOUNT).status_code == 201
    with instance(volume) as (name, url):
        wait_until(lambda: is_healthy(name), "the health check fails")
        assert httpx.post(f"{url}/token", data=LOGIN).status_code == 200


def test_an_instance_without_a_public_address_says_so_in_one_line() -> None:
    ended = subprocess.run(
        ["docker", "run", "--rm", *CONFINED, f"--env=SECRET_KEY={token_hex(32)}", IMAGE],
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Configuration error: PUBLIC_URL is not set")
    assert ended.stderr.count("\n") == 1


def test_the_image_runs_as_a_user_without_rights_and_has_no_pip() -> None:
    code = "import importlib.util, os; print(os.getuid(), importlib.util.find_spec('pip'), os.access('/srv', os.W_OK))"
    assert docker("run", "--rm", *CONFINED, IMAGE, "python", "-c", code) == "10001 None False"


def test_the_image_carries_the_bill_of_its_packages() -> None:
    bill = json.loads(docker("run", "--rm", *CONFINED, IMAGE, "cat", "/srv/sbom.json"))
    assert bill["bomFormat"] == "CycloneDX"
    locked = re.findall(r"^([\w.-]+)==([^ ]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert sorted((part["name"], part["version"]) for part in bill["components"]) == sorted(locked)


def test_an_operators_command_finds_the_application() -> None:
    variables = [f"--env=SECRET_KEY={token_hex(32)}", "--env=PUBLIC_URL=http://localhost"]
    table = docker("run", "--rm", *CONFINED, *variables, IMAGE, "litestar", "route-table")
    assert "/users/me" in table


# Compose --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def compose() -> Iterator[Callable[..., str]]:
    """Start what compose.yaml says, and wait until it is well; run a command of compose's."""
    variables = {"SECRET_KEY": token_hex(32), "POSTGRES_PASSWORD": token_hex(16), "COMPOSE_PROJECT_NAME": "test-image"}

    def run(*arguments: str) -> str:
        return docker("compose", *arguments, **variables)

    try:
        run("up", "--build", "--wait", f"--wait-timeout={LONGEST_SECONDS}")
        yield run
    finally:
        run("down", "--volumes", "--timeout", str(GRACE_SECONDS))


def test_two_instances_behind_nginx_serve_while_each_is_restarted(compose: Callable[..., str]) -> None:
    with httpx.Client(base_url="http://localhost:8080", timeout=30) as client:
        assert client.post("/users/", json=ACCOUNT).status_code == 201
        token = client.post("/token", data=LOGIN).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        for name in ("app1", "app2"):
            compose("stop", name)
            assert [client.get("/users/me").status_code for _ in range(20)] == [200] * 20
            compose("up", "--no-build", "--detach", "--no-deps", "--wait", name)
        assert "alice@example.org" in client.get("/users/me").text
        assert "superuser" in compose("exec", "app1", "litestar", "route-table")
        assert compose("exec", "-T", "app1", "litestar", "jobs", "dead") == ""
