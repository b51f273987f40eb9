"""Measure the process round the application: start-up, memory, a second worker, and the choice of server."""

import os

from benchmarks import processes, servers
from benchmarks.compare import compare, figures
from benchmarks.database import PROJECT_PYTHON
from benchmarks.load import Plan
from benchmarks.report import Table, spread
from benchmarks.servers import Server

CONNECTIONS = 8
WORKERS = (1, 2)
GRANIAN = (PROJECT_PYTHON, "-m", "granian", "--interface", "asgi", "--port", "{port}", "app.main:app")
UVICORN = (PROJECT_PYTHON, "-m", "uvicorn", "--no-access-log", "--port", "{port}", "app.main:app")
HOSTS = (
    servers.project,
    Server("granian uvloop", (*GRANIAN, "--loop", "uvloop", "--runtime-mode", "st")),
    Server(
        "granian uvloop http1",
        (*GRANIAN, "--loop", "uvloop", "--runtime-mode", "st", "--http", "1", "--no-ws"),
    ),
    Server("granian uvloop mt", (*GRANIAN, "--loop", "uvloop", "--runtime-mode", "mt")),
    Server("granian asyncio", (*GRANIAN, "--loop", "asyncio", "--runtime-mode", "st")),
    Server("uvicorn uvloop httptools", (*UVICORN, "--loop", "uvloop", "--http", "httptools")),
    Server("uvicorn asyncio httptools", (*UVICORN, "--loop", "asyncio", "--http", "httptools")),
    Server("uvicorn uvloop h11", (*UVICORN, "--loop", "uvloop", "--http", "h11")),
)


def startup(plan: Plan) -> list[Table]:
    """Start each server a few times; measure how long that takes, and its memory before the first request."""
    plan.postgres.create("startup")
    rows = []
    for server in (servers.limit, servers.project, servers.tickets):
        seconds, cpu, memory = [], [], []
        for _ in range(plan.rounds):
            with servers.running(server, plan.postgres.url("startup")) as running:
                seconds.append(running.start_seconds)
                cpu.append(running.start_cpu)
                memory.append(processes.resident_mib(running.pid))
        rows.append([server.name, spread(seconds), spread(cpu), spread(memory, 0)])
    note = (
        "From the start of the process to the first 200 of `/health/live`, and the memory held then, each page that "
        "processes share once. The project is to take 1.5 s, then 1.0, and 100 MiB, then 80."
    )
    return [Table("Start-up", note, ["server", "seconds", "CPU seconds", "memory MiB"], rows)]


def workers(plan: Plan) -> list[Table]:
    """Serve with one worker and with two, in turn."""
    variants = [Server(f"{count}", servers.project.command, {"WORKERS": f"{count}"}) for count in WORKERS]
    note = (
        f"{2 * CONNECTIONS} connections; wrk, PostgreSQL and the workers share {os.cpu_count()} cores, "
        "so two workers gain only where the machine has cores to spare."
    )
    return [figures("Workers", note, compare(plan, "workers", variants, connections=2 * CONNECTIONS))]


def hosts(plan: Plan) -> list[Table]:
    """Serve by Granian and by Uvicorn with some of their options."""
    note = f"The project as it ships, and under each server directly; {CONNECTIONS} connections, one worker."
    return [figures("Servers", note, compare(plan, "servers", HOSTS, connections=CONNECTIONS))]
