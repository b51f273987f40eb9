"""Connections that the server ends, at whatever moment it does."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import Integer, func, select
from sqlalchemy.exc import DBAPIError

from app.database.failures import database_error
from app.database.sessions import Database
from app.errors import Unavailable

BACKEND = select(func.pg_backend_pid(type_=Integer()))


async def lose_connection(database: Database, server: asyncpg.Connection, *, pause: bool) -> None:
    """Have the server end a connection in the middle of a transaction, and go on with that."""
    async with database.transaction() as transaction:
        await server.execute("SELECT pg_terminate_backend($1)", await transaction.scalar(BACKEND))
        if pause:
            await asyncio.sleep(0)
        await transaction.execute(BACKEND)


@pytest.mark.direct("about connections of the server's own")
async def test_a_connection_that_ends_in_a_transaction_is_an_outage(
    postgresql_url: str, server: asyncpg.Connection
) -> None:
    """Also when its end was announced, but hasn't come yet, for which asyncpg has an error of its own."""
    database = Database(postgresql_url, pool_size=1)
    for number in range(60):
        with pytest.raises(DBAPIError) as failure:
            await lose_connection(database, server, pause=bool(number % 2))
        assert isinstance(database_error(failure.value), Unavailable)
        assert failure.value.connection_invalidated
    await database.close()
