"""Compare the three routes that are used most: the limit, the project and the tickets' stack."""

from statistics import median

from benchmarks import servers
from benchmarks.compare import ITEMS, USERS, Samples, compare, figures
from benchmarks.load import Plan
from benchmarks.report import Table

CONNECTIONS = 8
NOTE = (
    f"{CONNECTIONS} connections of one wrk thread to one worker; {USERS:,} users with {ITEMS // USERS} items "
    "each. CPU is the user and system time of the whole server per request, PostgreSQL's apart. "
    "Medians over the rounds, with the least and the greatest."
)


def routes(plan: Plan) -> list[Table]:
    """Measure the limit, the project and the tickets' stack."""
    variants = (servers.limit, servers.project, servers.tickets)
    samples = compare(plan, "routes", variants, connections=CONNECTIONS)
    return [figures("Routes", NOTE, samples), _ratios(samples)]


def _ratios(samples: Samples) -> Table:
    cpu = {key: median(sample.cpu for sample in taken) for key, taken in samples.items()}
    rows = [
        [
            route,
            f"{cpu[route, 'project'] / cpu[route, 'limit']:.2f}",
            f"{cpu[route, 'tickets'] / cpu[route, 'project']:.2f}",
        ]
        for route in dict.fromkeys(route for route, _ in samples)
    ]
    header = ["route", "project / limit", "tickets / project"]
    return Table("Ratios", "Medians of the CPU per request, divided.", header, rows)
