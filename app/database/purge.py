"""Deletion of many rows, in batches that are short enough for the database's time-out."""

from time import monotonic

from sqlalchemy import ColumnElement, delete, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

from app.database.models import table_of
from app.database.progress import progress
from app.database.sessions import Database

BATCH = 5_000
MIN_BATCH = 20
WITHIN_SECONDS = 20
"""The time after which no further batch begins; a job that purges has half a minute."""


async def delete_in_batches(database: Database, model: type[DeclarativeBase], which: ColumnElement[bool]) -> int:
    """Delete the rows of a table that the condition chooses; return how many there were.

    Each batch is a transaction of its own, so that what was deleted stays deleted. One that fails is tried again with a
    quarter of its rows. What is left after WITHIN_SECONDS is left to the next call. Raise DBAPIError and OSError when
    even a small batch fails.
    """
    total, size, end = 0, BATCH, monotonic() + WITHIN_SECONDS
    with progress(f"purge {table_of(model).name}") as advance:
        while monotonic() < end:
            try:
                deleted = await delete_batch(database, model, which, size)
            except (DBAPIError, TimeoutError):
                if size <= MIN_BATCH:
                    raise
                size = max(MIN_BATCH, size // 4)
                continue
            total += deleted
            advance(deleted)
            if deleted < size:
                break
    return total


async def delete_batch(database: Database, model: type[DeclarativeBase], which: ColumnElement[bool], size: int) -> int:
    """Delete at most so many of the rows; return how many there were."""
    table = table_of(model)
    key = tuple_(*table.primary_key.columns)
    chosen = select(*table.primary_key.columns).where(which).limit(size)
    async with database.transaction() as transaction:
        connection = await transaction.connection()
        return (await connection.execute(delete(table).where(key.in_(chosen)))).rowcount
