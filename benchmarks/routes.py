"""Compare the three routes that are used most: the limit, the project and the tickets' stack."""

from collections.abc import Mapping
from statistics import median

from benchmarks import servers
from benchmarks.bearers import API_TOKEN, APPLICATION, all_kinds
from benchmarks.compare import ITEMS, USERS, compare, figures, session_token
from benchmarks.load import Plan
from benchmarks.report import Table

CONNECTIONS = 8
NOTE = (
    f"{CONNECTIONS} connections of one wrk thread to one worker; {USERS:,} users with {ITEMS // USERS} items "
    "each. CPU is the user and system time of the whole server per request, PostgreSQL's apart. The token is a "
    "session's, unless the server's name says another kind. Medians over the rounds, with the least and the greatest."
)
TIMES_LIMIT = {"GET /users/me": (2.0, 1.7), "GET /items/?limit=20": (2.3, 2.0), "POST /items/": (2.5, 2.0)}
"""The most CPU per request that the project is to take, as a multiple of the limit's: the mark, and the next one."""
TIMES_LESS = (4.5, 5.0)
"""How many times as much CPU the tickets' stack is to take at least: the mark, and the next one."""


def routes(plan: Plan) -> list[Table]:
    """Measure the limit, the project by each kind of token, and the tickets' stack."""
    variants = (servers.limit, servers.project, servers.tickets)
    samples = compare(plan, "routes", variants, connections=CONNECTIONS, tokens=tokens)
    cpu = {key: median(sample.cpu for sample in taken) for key, taken in samples.items()}
    return [marks(cpu), bearers(cpu), figures("Routes", NOTE, samples)]


def tokens(running: servers.Running) -> Mapping[str, str]:
    """Return the tokens of a server: all kinds of the project's, and a session's of its peers."""
    return all_kinds(running) if running.server == servers.project else session_token(running)


def marks(cpu: Mapping[tuple[str, str], float]) -> Table:
    """Return the ratios beside what they are to reach."""
    rows = []
    for route, (most, next_most) in TIMES_LIMIT.items():
        times = cpu[route, "project"] / cpu[route, "limit"]
        less = cpu[route, "tickets"] / cpu[route, "project"]
        times_marks = f"{most:.1f}, then {next_most:.1f}"
        less_marks = f"{TIMES_LESS[0]:.1f}, then {TIMES_LESS[1]:.1f}"
        rows.append([route, f"{times:.2f}", times_marks, f"{less:.2f}", less_marks])
    note = "Medians of the CPU per request, divided, and what they are to be."
    return Table("Ratios", note, ["route", "project / limit", "at most", "tickets / project", "at least"], rows)


def bearers(cpu: Mapping[tuple[str, str], float]) -> Table:
    """Return what each kind of token costs, as a multiple of the limit, which has a session's token."""
    names = {"session": "project", API_TOKEN: f"project, {API_TOKEN}", APPLICATION: f"project, {APPLICATION}"}
    rows = [
        [route, *(f"{cpu[route, name] / cpu[route, 'limit']:.2f}" for name in names.values())] for route in TIMES_LIMIT
    ]
    note = "The project's CPU per request by each kind of token, divided by the limit's."
    return Table("Tokens", note, ["route", *names], rows)
