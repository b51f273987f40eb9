"""Measure how long a change of the code takes to be served in development."""

import re
import shutil
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks import servers
from benchmarks.database import PROJECT
from benchmarks.load import Plan
from benchmarks.report import Table, spread
from benchmarks.servers import START_SECONDS, Failed, Server

NEEDED = ("app", "migrations", "alembic.ini")
MODULE = Path("app", "operations", "health.py")
ANSWER = re.compile(r'Literal\["ok[0-9]*"\] = "ok[0-9]*"')


def reload(plan: Plan) -> list[Table]:
    """Change the answer of `/health/live` in a copy of the project, again and again, and wait for the new one."""
    plan.postgres.create("reload")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        copy = Path(folder)
        for name in NEEDED:
            if (PROJECT / name).is_dir():
                shutil.copytree(PROJECT / name, copy / name)
            else:
                shutil.copy(PROJECT / name, copy)
        server = Server("reload", (*servers.project.command, "--reload"), {"ENVIRONMENT": "development"}, copy)
        with servers.running(server, plan.postgres.url("reload")) as running:
            seconds = [change(running, copy / MODULE, number) for number in range(plan.rounds)]
    note = "From saving a file of the code to its first answer under `just dev`. It is to take 2 s, then 1."
    return [Table("Reload", note, ["of", "seconds"], [["project", spread(seconds)]])]


def change(running: servers.Running, module: Path, number: int) -> float:
    """Have the service answer something else, and return how many seconds that took."""
    answer = f"ok{number}"
    time.sleep(1)  # The one before is over: what is saved while a worker starts waits for it.
    started = time.perf_counter()
    module.write_text(ANSWER.sub(f'Literal["{answer}"] = "{answer}"', module.read_text()))
    while status(running.url) != answer:
        if time.perf_counter() - started > START_SECONDS:
            raise Failed("a change of the code is not served")
        time.sleep(0.01)
    return time.perf_counter() - started


def status(url: str) -> str | None:
    """Return the status in the answer of `/health/live`; None while no worker answers."""
    try:
        found: str = httpx.get(f"{url}/health/live").raise_for_status().json()["status"]
    except httpx.TransportError:
        return None
    return found
