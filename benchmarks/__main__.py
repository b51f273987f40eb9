"""The command line of the benchmarks."""

import argparse
import signal
import sys
from collections.abc import Callable

from benchmarks import hosting, lists, logins, picture, reload, report, routes, worst
from benchmarks.database import postgres
from benchmarks.load import Plan, require_wrk
from benchmarks.report import Table
from benchmarks.servers import Failed

MEASUREMENTS: dict[str, Callable[[Plan], list[Table]]] = {
    "routes": routes.routes,
    "logins": logins.logins,
    "beside": logins.beside,
    "worst": worst.worst,
    "depth": lists.depth,
    "size": lists.size,
    "startup": hosting.startup,
    "reload": reload.reload,
    "workers": hosting.workers,
    "servers": hosting.hosts,
}
BY_NAME_ONLY = {"workers", "servers"}
"""The measurements that take longest: one needs cores to spare, and the other's outcome is decision 4."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "picture", *MEASUREMENTS])
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is measured (3)")
    parser.add_argument("--seconds", type=int, default=3, help="how long each load lasts (3)")
    return parser.parse_args()


def main() -> None:
    """Take the measurements that were asked for, and write the results when those were all."""
    chosen = arguments()
    if chosen.what == "picture":
        picture.draw()
        return
    require_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Terminated"))  # So that no server is left behind.
    names = [name for name in MEASUREMENTS if name not in BY_NAME_ONLY] if chosen.what == "all" else [chosen.what]
    tables = []
    try:
        with postgres() as server:
            plan = Plan(server, chosen.rounds, chosen.seconds)
            for name in names:
                for table in MEASUREMENTS[name](plan):
                    print(table, flush=True)
                    tables.append(table)
    except Failed as failure:
        sys.exit(f"The run failed: {failure}")
    if chosen.what == "all":
        report.write(tables)
        picture.draw()


if __name__ == "__main__":
    main()
