"""Measure a list by the depth of the page, and by the number of rows that others have."""

import httpx

from benchmarks import servers
from benchmarks.load import Plan, Request, Sample, measure
from benchmarks.report import Table
from benchmarks.servers import Failed

PAGE = 50
DEPTHS = (1, 10, 100, 1_000, 10_000)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
USERS = 1_000
OWN_ITEMS = 100
CONNECTIONS = 2
HEADER = ["CPU ms", "PostgreSQL CPU ms", "requests/s", "p50 ms", "p99 ms"]


def depth(plan: Plan) -> list[Table]:
    """Follow the next links of one long list and load some of its pages."""
    plan.postgres.create("depth")
    plan.postgres.add_users("depth", USERS)
    plan.postgres.replace_items("depth", PAGE * (DEPTHS[-1] + 1), users=USERS, every=1)
    rows = []
    with servers.running(servers.project, plan.postgres.url("depth")) as running:
        token = running.log_in("user1")
        for page, path in _pages(running.url, token).items():
            sample = measure(running, plan, Request(path, token=token), connections=CONNECTIONS)
            rows.append([f"{page:,}", *_figures(sample)])
    note = f"`GET /items/?limit={PAGE}` on {CONNECTIONS} connections, each page reached by its `next` link."
    return [Table("List by page", note, ["page", *HEADER], rows)]


def size(plan: Plan) -> list[Table]:
    """Load the first page of a user whose items lie among more and more items of other users."""
    plan.postgres.create("size")
    plan.postgres.add_users("size", USERS)
    rows = []
    with servers.running(servers.project, plan.postgres.url("size")) as running:
        request = Request(f"/items/?limit={PAGE}", token=running.log_in("user1"))
        for items in SIZES:
            plan.postgres.replace_items("size", items, users=USERS, every=items // OWN_ITEMS)
            rows.append([f"{items:,}", *_figures(measure(running, plan, request, connections=CONNECTIONS))])
    note = (
        f"`GET /items/?limit={PAGE}` on {CONNECTIONS} connections, by a user with {OWN_ITEMS} items "
        "that lie scattered among those of others."
    )
    return [Table("List by size of the table", note, ["items", *HEADER], rows)]


def _pages(url: str, token: str) -> dict[int, str]:
    """Return the path of each page in `DEPTHS`, found by following the `next` links."""
    paths, path = {}, f"/items/?limit={PAGE}"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        for page in range(1, DEPTHS[-1] + 1):
            if page in DEPTHS:
                paths[page] = path
            answer = client.get(path).raise_for_status()
            if "next" not in answer.links:
                raise Failed(f"page {page} of the list has no next link")
            path = httpx.URL(answer.links["next"]["url"]).raw_path.decode()
    return paths


def _figures(sample: Sample) -> list[str]:
    return [
        f"{sample.cpu:.2f}",
        f"{sample.database_cpu:.2f}",
        f"{sample.rate:,.0f}",
        f"{sample.p50:.2f}",
        f"{sample.p99:.2f}",
    ]
