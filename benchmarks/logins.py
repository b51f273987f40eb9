"""Measure logins, and reads beside logins."""

from urllib.parse import urlencode

from benchmarks import processes, servers
from benchmarks.load import FORM, Plan, Request, finish, measure, start
from benchmarks.passwords import PASSWORD
from benchmarks.report import Table, spread

CLIENTS = 16
READERS = 2
USERS = 100
SERVERS = (servers.limit, servers.project, servers.tickets)
LOGIN = Request("/token", "POST", urlencode({"username": "user2", "password": PASSWORD}), FORM)


def logins(plan: Plan) -> list[Table]:
    """Let clients log in as fast as they can."""
    _fill(plan, "logins")
    rows = []
    for server in SERVERS:
        with servers.running(server, plan.postgres.url("logins")) as running:
            taken = [measure(running, plan, LOGIN, connections=CLIENTS) for _ in range(plan.rounds)]
        rates = spread((sample.rate for sample in taken), digits=1)
        costs = spread((sample.cpu for sample in taken), digits=1)
        rows.append([server.name, rates, costs, spread((sample.p99 for sample in taken), digits=0)])
    note = f"{CLIENTS} clients log in without pause, one worker."
    return [Table("Logins", note, ["server", "logins/s", "CPU ms", "p99 ms"], rows)]


def beside(plan: Plan) -> list[Table]:
    """Read the profile with a quiet server, then beside clients that log in without pause."""
    _fill(plan, "beside")
    rows = []
    for server in SERVERS:
        with servers.running(server, plan.postgres.url("beside")) as running:
            reads = Request("/users/me", token=running.log_in("user1"))
            rows.append([server.name, "none", *_read(running, plan, reads)])
            # As long as the reads and their second of warming up.
            load = start(running, LOGIN, connections=CLIENTS, seconds=plan.seconds + 1)
            read = _read(running, plan, reads)
            outcome = finish(load)
            rows.append([server.name, f"{outcome.requests / outcome.duration * 1e6:.1f} a second", *read])
    note = (
        f"`GET /users/me` on {READERS} connections, alone and while {CLIENTS} clients log in without pause, "
        "one worker. Memory is the most that the server ever held."
    )
    return [Table("Reads beside logins", note, ["server", "logins", "reads/s", "p50 ms", "p99 ms", "MiB"], rows)]


def _fill(plan: Plan, database: str) -> None:
    plan.postgres.create(database)
    plan.postgres.add_users(database, USERS)


def _read(running: servers.Running, plan: Plan, reads: Request) -> list[str]:
    sample = measure(running, plan, reads, connections=READERS)
    memory = processes.peak_resident_mib(running.pid)
    return [f"{sample.rate:,.0f}", f"{sample.p50:.2f}", f"{sample.p99:.2f}", f"{memory:.0f}"]
