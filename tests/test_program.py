"""The program: `python -m app`, from its start to its end."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from tests.factories import PASSWORD, SECRET
from tests.programs import LONGEST_SECONDS, ROOT, STOP_SECONDS, environment, run, service, service_printing_to


def stop(process: subprocess.Popen[str]) -> int:
    """Ask a process to end, and return its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(STOP_SECONDS)


def sign_up(url: str) -> dict[str, str]:
    """Register somebody and sign them in; return their Authorization header."""
    body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
    assert httpx.post(f"{url}/users/", json=body).status_code == 201
    answer = httpx.post(f"{url}/token", data={"username": "alice", "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def test_a_first_run_needs_nothing_and_serves(tmp_path: Path, free_tcp_port: int) -> None:
    """It writes a secret that nobody else can read, migrates, says where the docs are, and ends when asked to."""
    url = f"http://127.0.0.1:{free_tcp_port}"
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    (tmp_path / ".env").chmod(0o644)
    with service(tmp_path, free_tcp_port) as process:
        headers = sign_up(url)
        created = httpx.post(f"{url}/items/", json={"title": "Umbrella"}, headers=headers)
        assert httpx.get(f"{url}/items/", headers=headers).json() == [created.json()]
        assert httpx.get(f"{url}/docs").status_code == 200
        assert stop(process) == 0
    out = (tmp_path / "out").read_text()
    assert f"{url}/docs" in out
    assert "Traceback" not in out
    assert PASSWORD not in out
    assert headers["Authorization"].removeprefix("Bearer ") not in out
    env = tmp_path / ".env"
    databases = tmp_path.glob("*.sqlite3*")
    assert {stat.S_IMODE(file.stat().st_mode) for file in [env, *databases]} == {0o600}
    assert env.read_text().rpartition("SECRET_KEY=")[2].strip() not in out
    assert list(tmp_path.glob("*.sqlite3"))


@pytest.mark.slow
def test_tokens_outlive_a_restart(tmp_path: Path, free_tcp_port: int) -> None:
    """The second run takes the secret of the first."""
    url = f"http://127.0.0.1:{free_tcp_port}"
    with service(tmp_path, free_tcp_port) as process:
        headers = sign_up(url)
        stop(process)
    secrets = (tmp_path / ".env").read_text()
    with service(tmp_path, free_tcp_port):
        assert httpx.get(f"{url}/users/me", headers=headers).status_code == 200
    assert (tmp_path / ".env").read_text() == secrets


@pytest.mark.slow
def test_several_workers_serve_one_port_and_no_second_instance_joins_them(tmp_path: Path, free_tcp_port: int) -> None:
    """All of them end when asked to; a client may keep its connection as long as KEEP_ALIVE_SECONDS says."""
    variables = {"WORKERS": "2", "LOG_LEVEL": "WARNING", "HOST": "localhost", "KEEP_ALIVE_SECONDS": "2"}
    with service(tmp_path, free_tcp_port, **variables) as process:
        wait_until_closed(free_tcp_port)
        second = run(tmp_path, "app", SECRET_KEY=SECRET, PORT=str(free_tcp_port), DATABASE_URL="sqlite:///second")
        for _ in range(20):
            assert httpx.get(f"http://127.0.0.1:{free_tcp_port}/health/live").status_code == 200
        assert stop(process) == 0
    assert f"The API is at http://localhost:{free_tcp_port}," in (tmp_path / "out").read_text()
    taken = f"PORT: {free_tcp_port} is taken at 127.0.0.1, by another program or by this service"
    assert (second.returncode, second.stdout, second.stderr) == (1, "", f"Configuration error: {taken}\n")
    assert not (tmp_path / "second").exists()


def wait_until_closed(port: int) -> None:
    """Return when the service has closed a connection on which no second request came."""
    with socket.create_connection(("127.0.0.1", port), LONGEST_SECONDS) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert connection.recv(4096) == b""


def closed_pipe() -> int:
    """Return a pipe to write to, whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk() -> int:
    """Return a file on a disk that is always full."""
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.slow
@pytest.mark.parametrize("output", [closed_pipe, full_disk])
def test_without_a_standard_output_it_serves_and_a_closed_terminal_ends_it(
    tmp_path: Path, free_tcp_port: int, output: Callable[[], int]
) -> None:
    """Lines of the log are lost, but no login, no change and no mail; SIGHUP is what a terminal sends at its end."""
    stdout = output()
    with (
        service_printing_to(stdout, tmp_path, free_tcp_port) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{free_tcp_port}") as client,
    ):
        os.close(stdout)
        body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
        assert client.post("/users/", json=body).status_code == 201
        login = client.post("/token", data={"username": "alice", "password": PASSWORD})
        assert login.status_code == 200
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        change = {"email": "new@example.org", "current_password": PASSWORD}
        assert client.patch("/users/me", json=change).status_code == 200
        assert client.get("/health/ready").status_code == 200
        deadline = monotonic() + LONGEST_SECONDS
        while not any("new@example.org" in mail.read_text() for mail in (tmp_path / "outbox").glob("*.eml")):
            assert monotonic() < deadline
            sleep(0.2)
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(STOP_SECONDS) == 0
    assert (tmp_path / "out").read_text() == ""


SERVER_LINE = """
import logging
from pathlib import Path
from app import logs
from app.__main__ import server
from app.settings import Settings

settings = Settings.load()
logs.configure(settings.log_level, production=settings.production)
server(settings, settings.host, Path("draining"), reload=False)
logging.getLogger("_granian").error("Unexpected exit from worker-1")
"""


@pytest.mark.slow
def test_in_production_all_that_is_printed_is_json(tmp_path: Path, free_tcp_port: int) -> None:
    """The server's own lines, such as the death of a worker, are JSON too."""
    variables = {"ENVIRONMENT": "production", "SECRET_KEY": SECRET}
    with service(tmp_path, free_tcp_port, **variables):
        httpx.get(f"http://127.0.0.1:{free_tcp_port}/health/live")
    out = (tmp_path / "out").read_text()
    out += subprocess.check_output([sys.executable, "-c", SERVER_LINE], env=environment(**variables), text=True)
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(line.keys() >= {"event", "level", "timestamp"} for line in lines)
    assert lines[0]["event"] == "starting"
    assert [line["event"] for line in lines[1:3]] == [
        f"PUBLIC_URL is not set: tokens and links in mails name http://127.0.0.1:{free_tcp_port}",
        "SMTP_URL is not set: mails aren't sent, but kept as files in outbox",
    ]
    assert lines[-1]["event"] == "Unexpected exit from worker-1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"SECRET_KEY": "short"}, "Configuration error: SECRET_KEY must have at least 32 bytes for HS256"),
        ({"HOST": "*", "SECRET_KEY": SECRET}, "Configuration error: HOST: * is no address"),
        ({"ENVIRONMENT": "production", "SECRET_KEY": ""}, "Configuration error: SECRET_KEY is not set"),
    ],
    ids=["short secret", "no address", "production without a secret"],
)
def test_a_bad_setting_is_one_clear_line(tmp_path: Path, variables: dict[str, str], line: str) -> None:
    """The line is on standard error, before anything is migrated; the settings' own tests have the other lines."""
    ended = run(tmp_path, "app", **variables)
    assert ended.returncode == 1
    assert ended.stderr.startswith(line)
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert not list(tmp_path.glob("*.sqlite3"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["postgresql://u:canary@127.0.0.1:1/n", "sqlite:////nowhere/file"], ids=["postgresql", "sqlite"]
)
def test_a_database_that_cannot_be_reached_is_one_clear_line_without_its_password(
    tmp_path: Path, free_tcp_port: int, url: str
) -> None:
    ended = run(tmp_path, "app", SECRET_KEY=SECRET, DATABASE_URL=url, PORT=str(free_tcp_port))
    assert ended.returncode == 1
    assert ended.stderr.startswith("The database of DATABASE_URL can't be reached: ")
    assert ended.stderr.count("\n") == 1
    assert "canary" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_cannot_be_built_ends_the_program(tmp_path: Path, free_tcp_port: int, workers: str) -> None:
    """Its traceback is there once, instead of once for each worker that is started in vain."""
    copy_program(tmp_path)
    with (tmp_path / "app" / "operations" / "health.py").open("a") as module:
        module.write("\nraise ZeroDivisionError\n")
    ended = run(tmp_path, "app", SECRET_KEY=SECRET, WORKERS=workers, PORT=str(free_tcp_port))
    assert ended.returncode == 1
    assert ended.stderr.count("Traceback") == 1
    assert ended.stderr.endswith("ZeroDivisionError\n")


def copy_program(folder: Path) -> None:
    """Put a copy of the application into a folder; a program that runs there takes it instead of the original."""
    for part in ("app", "migrations"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", folder)


@pytest.mark.slow
def test_a_change_of_the_code_is_served_at_once_in_development(tmp_path: Path, free_tcp_port: int) -> None:
    """The folder has a name that configuration files would read something into."""
    folder = tmp_path / "50% of %(here)s #1 'ü'"
    folder.mkdir()
    copy_program(folder)
    assert run(folder, "alembic", "upgrade", "head").stderr == ""
    assert (folder / "backend.sqlite3").exists()
    url = f"http://127.0.0.1:{free_tcp_port}/openapi.json"
    with service(folder, free_tcp_port, "--reload") as process:
        assert httpx.get(url).json()["info"]["title"] == "Backend API"
        module = folder / "app" / "settings" / "__init__.py"
        module.write_text(module.read_text().replace('TITLE = "Backend API"', 'TITLE = "Changed API"'))
        deadline = monotonic() + LONGEST_SECONDS
        while title_at(url) != "Changed API":
            assert monotonic() < deadline
            sleep(0.2)
        assert stop(process) == 0


def title_at(url: str) -> str | None:
    """Return the title of the document; None while no worker answers."""
    try:
        title: str = httpx.get(url).json()["info"]["title"]
    except httpx.TransportError:
        return None
    return title
