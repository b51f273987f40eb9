"""Servers to break."""

import tempfile
from collections.abc import Iterator

import pytest

from tests import postgresql


@pytest.fixture
def server_folder() -> Iterator[str]:
    """Where a PostgreSQL of the test's own lives: not in TMPDIR, which may be closed to the user that runs it."""
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as folder:
        yield folder


@pytest.fixture
def crashable(server_folder: str) -> Iterator[postgresql.Server]:
    """A PostgreSQL that the test may crash and start again."""
    with postgresql.durable_server(server_folder) as server:
        yield server
