"""Databases for tests of jobs, which need no application."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from app.database.sessions import Database
from tests.factories import open_database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database without rows."""
    async with open_database(database_url) as database:
        yield database


@pytest.fixture
async def databases(database_url: str) -> AsyncIterator[Sequence[Database]]:
    """The same database three times, as three processes see it."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_database(database_url)) for _ in range(3)]
