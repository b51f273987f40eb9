"""Databases for tests that need no application."""

from collections.abc import AsyncIterator

import pytest

from app.database.sessions import Database
from tests.factories import open_database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The test's database, by an engine of its own; an application has another one (`parts.database`)."""
    async with open_database(database_url) as database:
        yield database
