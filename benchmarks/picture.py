"""Draw the comparison of the routes as an SVG, from the table in RESULTS.md: `just bench picture` needs no run."""

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.database import PROJECT
from benchmarks.report import RESULTS

PICTURE = PROJECT / "docs" / "benchmark.svg"
TABLE = "## Routes"
SERVERS = {
    "limit": "the least it takes (bare ASGI)",
    "project": "this project",
    "tickets": "FastAPI and the synchronous ORM",
}
"""The servers that are shown, in this order, and what each is called in the picture."""
WIDTH, LEFT, RIGHT = 760, 190, 150
TOP, BAR, GAP, BETWEEN = 92, 20, 4, 22
STYLE = """\
  .card { fill: #ffffff; stroke: #d0d7de; }
  text { font: 14px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; }
  .route { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13px; }
  .limit { fill: #8c959f; }
  .project { fill: #1a7f37; }
  .tickets { fill: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d; }
    text { fill: #f0f6fc; }
    .limit { fill: #9198a1; }
    .project { fill: #3fb950; }
    .tickets { fill: #db6d28; }
  }"""

Costs = Mapping[str, Mapping[str, float]]
"""The CPU in milliseconds by route and server."""


def draw() -> None:
    """Draw the picture of what was measured last."""
    PICTURE.write_text(svg(costs(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


def costs(results: str) -> Costs:
    """Return what the routes cost each server, as the table in the results says it."""
    _, _, rest = results.partition(f"{TABLE}\n")
    table, _, _ = rest.partition("\n## ")
    found: dict[str, dict[str, float]] = {}
    for line in table.splitlines():
        route, server, cpu, *_ = [*(cell.strip() for cell in line.strip("|").split("|")), "", "", ""]
        if server in SERVERS:
            found.setdefault(route, {})[server] = float(cpu.partition(" ")[0])
    return found


def svg(found: Costs) -> str:
    """Return the picture: a group of bars for each route, the least first."""
    routes = sorted(found, key=lambda route: found[route]["project"])
    scale = (WIDTH - LEFT - RIGHT) / max(max(by_server.values()) for by_server in found.values())
    step = len(SERVERS) * (BAR + GAP) + BETWEEN
    height = TOP + len(routes) * step
    groups = [
        line for index, route in enumerate(routes) for line in group(route, found[route], TOP + index * step, scale)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{summary(found)}</title>",
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            '<text class="title" x="20" y="34">CPU per request, in milliseconds: less is better</text>',
            *legend(),
            *groups,
            "</svg>\n",
        ]
    )


def legend() -> list[str]:
    """Return the colours of the servers, in one line."""
    lines, x = [], 20
    for server, name in SERVERS.items():
        lines.append(f'<rect class="{server}" x="{x}" y="52" width="12" height="12" rx="2"/>')
        lines.append(f'<text x="{x + 18}" y="63">{escape(name)}</text>')
        x += 42 + 7 * len(name)
    return lines


def group(route: str, by_server: Mapping[str, float], y: float, scale: float) -> Sequence[str]:
    """Return the bars of a route, each with its figure and how many times the limit that is."""
    middle = y + len(SERVERS) * (BAR + GAP) / 2
    lines = [f'<text class="route" x="20" y="{middle + 3:.0f}">{escape(route)}</text>']
    for index, server in enumerate(SERVERS):
        cpu, top = by_server[server], y + index * (BAR + GAP)
        times = "" if server == "limit" else f" ({cpu / by_server['limit']:.1f} times)"
        lines.append(f'<rect class="{server}" x="{LEFT}" y="{top}" width="{cpu * scale:.1f}" height="{BAR}" rx="2"/>')
        lines.append(f'<text x="{LEFT + cpu * scale + 8:.1f}" y="{top + 15}">{cpu:.2f}{times}</text>')
    return lines


def summary(found: Costs) -> str:
    """Return the figures in words, for whoever doesn't see the picture."""
    parts = [
        f"{route}: " + ", ".join(f"{name} {by_server[server]:.2f} ms" for server, name in SERVERS.items())
        for route, by_server in found.items()
    ]
    return escape("CPU per request. " + "; ".join(parts))
