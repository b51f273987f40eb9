"""`pytest --through=nginx` and `--through=pgbouncer`: the same tests, with a program of production in between.

Through nginx, a client's requests go in turn to two instances, which are programs of their own; the test's own
application only reads and writes their database. Through PgBouncer, an application reaches PostgreSQL by its pool.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis import Redis

from app.database.sessions import Database
from tests import servers
from tests.factories import Gateway
from tests.programs import POOLED

# Fixtures that change an application or listen to it, which they can't do in another process.
IN_PROCESS = {"capsys", "capfd", "monkeypatch", "statements", "short_time_outs"}
SETTINGS = {"app", "settings"}
NEEDED = {"nginx": ("nginx", "redis-server"), "pgbouncer": ("pgbouncer",)}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--through`."""
    parser.addoption("--through", choices=["nginx", "pgbouncer"], help="put it between the tests and what they test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that can't go through the program, and count them by their reasons."""
    reason = {"nginx": not_through_nginx, "pgbouncer": not_through_pgbouncer}.get(config.option.through)
    if reason is None:
        return
    left_out = {item: reason(item) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if left_out[item]])
    items[:] = [item for item in items if not left_out[item]]
    reasons = list(filter(None, left_out.values()))
    config.stash[LEFT_OUT] = reasons
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = reasons


LEFT_OUT = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist's, which has no types
    """Take the reasons of one process; each collects all tests, and leaves the same ones out."""
    if reasons := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[LEFT_OUT] = reasons


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many tests were left out, and why."""
    reasons = terminalreporter.config.stash.get(LEFT_OUT, [])
    for reason in sorted(set(reasons)):
        terminalreporter.write_line(f"left out: {reasons.count(reason)} tests {reason}")


def not_through_pgbouncer(item: pytest.Item) -> str | None:
    """Return why a test isn't run through PgBouncer; None when it is."""
    if marker := item.get_closest_marker("direct"):
        return str(marker.args[0])
    return None if on_postgresql(item) else "that don't use PostgreSQL"


def not_through_nginx(item: pytest.Item) -> str | None:
    """Return why a test isn't run through nginx; None when it is."""
    assert isinstance(item, pytest.Function)
    if "client" not in item.fixturenames:
        return "that send no request, or to an application of their own"
    if not on_postgresql(item):
        return "on SQLite, which is for one machine"
    if IN_PROCESS & set(item.fixturenames):
        return "that reach into the application's process"
    if marker := item.get_closest_marker("in_process"):
        return str(marker.args[0])
    definitions = item._fixtureinfo.name2fixturedefs  # noqa: SLF001 - nothing public tells which definition is used
    if any(len(definitions.get(name, ())) > 1 for name in SETTINGS):
        return "with settings of their own"
    return None


def on_postgresql(item: pytest.Item) -> bool:
    """Return whether a test uses PostgreSQL."""
    assert isinstance(item, pytest.Function)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    kinds = [value for name, value in parameters.items() if name.endswith("database_url")]
    return "postgresql" in kinds or any(name.endswith("postgresql_url") for name in item.fixturenames)


def start(config: pytest.Config, stack: ExitStack, server: str) -> None:
    """Start PgBouncer once for all processes of the tests; end the run when a program isn't installed."""
    for name in NEEDED.get(config.option.through, ()):
        if (reason := servers.missing(name)) is not None:
            pytest.exit(f"Nothing was tested through {config.option.through}: {reason}", returncode=0)
    if config.option.through == "pgbouncer":
        os.environ[POOLED] = stack.enter_context(servers.pgbouncer(server))


@pytest.fixture(scope="session", autouse=True)
def _pooled() -> Iterator[None]:
    """Tell every database that its URL leads to a pooler, when it does, whatever settings a test makes for itself."""
    init = Database.__init__

    def pooled(self: Database, url: str, **options: Any) -> None:  # noqa: ANN401 - the application's
        init(self, url, **(options | {"pooler": True}))

    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get(POOLED):
            patch.setattr(Database, "__init__", pooled)
        yield


@pytest.fixture(scope="session")
def instances(
    migrated_postgresql_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Redis]]:
    """The way to two instances on this process's database, and the Redis that counts for both."""
    folder = tmp_path_factory.mktemp("instances")
    with (
        servers.redis() as redis,
        Redis.from_url(redis) as counts,
        servers.instances(2, folder, DATABASE_URL=migrated_postgresql_database, RATE_LIMIT_STORAGE=redis) as ports,
        servers.nginx(*ports) as port,
    ):
        yield Gateway(port), counts


@pytest.fixture
def gateway(request: pytest.FixtureRequest) -> Gateway | None:
    """The way to the instances, whose limits have counted nothing yet; None where requests stay in this process."""
    if request.config.option.through != "nginx":
        return None
    way: Gateway
    way, counts = request.getfixturevalue("instances")
    counts.flushdb()
    return way
