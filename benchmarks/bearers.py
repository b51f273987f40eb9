"""Compare the two kinds of bearer tokens, an access token and an API token, on the shortest route."""

from statistics import median

import httpx

from benchmarks import servers
from benchmarks.load import Plan, Request, Sample, measure
from benchmarks.report import Table, spread

USERS, CONNECTIONS = 100, 8
NOTE = (
    f"GET /users/me by {CONNECTIONS} connections to one worker, in turn. Medians over the rounds, least and greatest."
)


def bearers(plan: Plan) -> list[Table]:
    """Measure one route by each kind of token."""
    plan.postgres.create("bearers")
    plan.postgres.add_users("bearers", USERS)
    samples: dict[str, list[Sample]] = {}
    for _ in range(plan.rounds):
        with servers.running(servers.project, plan.postgres.url("bearers")) as running:
            access = running.log_in("user1")
            for kind, token in {"access token": access, "API token": api_token(running, access)}.items():
                sample = measure(running, plan, Request("/users/me", token=token), connections=CONNECTIONS)
                samples.setdefault(kind, []).append(sample)
    cpu = {kind: median(sample.cpu for sample in taken) for kind, taken in samples.items()}
    rows = [
        [
            kind,
            spread(sample.cpu for sample in taken),
            spread(sample.database_cpu for sample in taken),
            spread((sample.rate for sample in taken), digits=0),
            f"{cpu[kind] / cpu['access token']:.2f}",
        ]
        for kind, taken in samples.items()
    ]
    header = ["by", "CPU ms", "PostgreSQL CPU ms", "requests/s", "of the access token's CPU"]
    return [Table("Bearer tokens", NOTE, header, rows)]


def api_token(running: servers.Running, access: str) -> str:
    """Return a new API token."""
    body = {"name": "Benchmark", "scopes": ["account:read"]}
    headers = {"Authorization": f"Bearer {access}"}
    answer = httpx.post(f"{running.url}/users/me/tokens", json=body, headers=headers).raise_for_status()
    token: str = answer.json()["token"]
    return token
