"""PostgreSQL servers to break, and the figures that the tests measure."""

import tempfile
from collections.abc import Iterator

import pytest

from tests import postgresql


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures of docs/reliability.md, which the tests record by `record_property`."""
    for report in terminalreporter.getreports("passed"):
        if report.user_properties:
            figures = ", ".join(f"{name} {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {figures}")


@pytest.fixture
def server_folder() -> Iterator[str]:
    """A folder for a PostgreSQL of the test's own; not in TMPDIR, which may be closed to the user that runs it."""
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as folder:
        yield folder


@pytest.fixture
def crashable(server_folder: str) -> Iterator[postgresql.Server]:
    """A PostgreSQL that the test may crash and start again."""
    with postgresql.durable_server(server_folder) as server:
        yield server
