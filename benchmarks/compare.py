"""Compare servers under the same load, in turn, so that every change of the machine affects all of them."""

import json
from collections.abc import Callable, Mapping, Sequence

from benchmarks import servers
from benchmarks.load import Plan, Request, Sample, measure
from benchmarks.report import Table, spread

USERS, ITEMS = 1_000, 100_000

Samples = Mapping[tuple[str, str], Sequence[Sample]]
"""The samples of each route and server, one for each round."""


def requests(token: str) -> dict[str, Request]:
    item = json.dumps({"title": "Buy milk", "description": "Two bottles, and bread for Sunday morning."})
    return {
        "GET /users/me": Request("/users/me", token=token),
        "GET /items/?limit=20": Request("/items/?limit=20", token=token),
        "POST /items/": Request("/items/", "POST", item, token=token),
    }


def session_token(running: servers.Running) -> dict[str, str]:
    """Return the access token of a session, by the server's name."""
    return {running.server.name: running.log_in("user1")}


def compare(
    plan: Plan,
    database: str,
    variants: Sequence[servers.Server],
    *,
    connections: int,
    tokens: Callable[[servers.Running], Mapping[str, str]] = session_token,
) -> Samples:
    """Measure three routes of each server, round after round, on a database of its own.

    `tokens` are those of a server's requests, by the names under which the samples are kept.
    """
    plan.postgres.create(database)
    plan.postgres.add_users(database, USERS)
    plan.postgres.replace_items(database, ITEMS, users=USERS, every=USERS)
    samples: dict[tuple[str, str], list[Sample]] = {}
    for _ in range(plan.rounds):
        for server in variants:
            with servers.running(server, plan.postgres.url(database)) as running:
                for name, token in tokens(running).items():
                    for route, request in requests(token).items():
                        sample = measure(running, plan, request, connections=connections)
                        samples.setdefault((route, name), []).append(sample)
    return samples


def figures(title: str, note: str, samples: Samples) -> Table:
    header = ["route", "server", "CPU ms", "PostgreSQL CPU ms", "requests/s", "p50 ms", "p99 ms"]
    rows = [
        [
            route,
            server,
            spread(sample.cpu for sample in taken),
            spread(sample.database_cpu for sample in taken),
            spread((sample.rate for sample in taken), digits=0),
            spread(sample.p50 for sample in taken),
            spread(sample.p99 for sample in taken),
        ]
        for (route, server), taken in sorted(samples.items(), key=lambda entry: entry[0][0])
    ]
    return Table(title, note, header, rows)
