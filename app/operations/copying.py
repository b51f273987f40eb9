"""The copy of an SQLite database into an empty PostgreSQL one, in one transaction: all of it, or nothing.

Rows keep their keys. PostgreSQL gives no key again that SQLite ever gave, since an old token may still name a deleted
user.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncpg import PostgresError
from sqlalchemy import URL, Connection, NullPool, Result, Table, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.database.engine import accept_libpq, driver_url
from app.database.failures import error_summary
from app.database.models import Base
from app.database.progress import progress
from app.database.tables import (
    ROWS_AT_ONCE,
    all_rows,
    begin,
    count_new,
    count_old,
    filled_tables,
    last_key,
    lock_tables,
    revision_of,
    set_next_key,
)
from app.operations.migrations import newest_revisions

# `lock_timeout` is in milliseconds: a program that still writes to the target holds locks on its tables.
CONNECT = {"timeout": 10, "server_settings": {"lock_timeout": "3000", "application_name": "backend-api copy"}}


class CopyError(Exception):
    """Nothing was copied; the message tells the operator why, in one line."""


async def copy_database(source: str, target: URL, report: Callable[[str, int], None]) -> None:
    """Copy every table, and call `report` with the name and the number of rows of each. Raise CopyError.

    Rows are read while they are sent, so that memory doesn't grow with the database.
    """
    engine = accept_libpq(create_async_engine(postgresql(target), poolclass=NullPool, connect_args=CONNECT))
    try:
        with snapshot(source) as old:
            async with engine.begin() as new:
                await check_databases(old, new)
                for table in Base.metadata.sorted_tables:
                    report(table.name, await copy_table(table, old, new))
    except (SQLAlchemyError, PostgresError, OSError) as error:
        raise CopyError(f"Nothing was copied: {error_summary(error)}") from error
    finally:
        await engine.dispose()


def postgresql(target: URL) -> URL:
    """Return the URL of a PostgreSQL database unchanged. Raise CopyError for that of another."""
    if target.get_backend_name() != "postgresql":
        raise CopyError("DATABASE_URL must be the PostgreSQL database to copy into")
    return target


@contextmanager
def snapshot(source: str) -> Iterator[Connection]:
    """Open the old database as it is at this moment, even if it is written to meanwhile. Raise CopyError.

    It is opened for reading only, so that a missing file isn't created.
    """
    path = sqlite_file(source)
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            begin(connection)
            yield connection
    finally:
        engine.dispose()


def sqlite_file(source: str) -> Path:
    """Return the path of an SQLite URL. Raise CopyError, whose text has no URL, since that may hold a password."""
    path = Path((source.startswith("sqlite") and driver_url(source).database) or "")
    if not path.is_file():
        raise CopyError("The source must be sqlite:///file, with a file that is there")
    return path


async def check_databases(old: Connection, new: AsyncConnection) -> None:
    """Lock the tables of the new database. Raise CopyError unless it is empty, and both are at the newest revision."""
    head = ", ".join(newest_revisions())
    for name, revision in (("source", revision_of(old)), ("target", await new.run_sync(revision_of))):
        if revision != head:
            raise CopyError(f"The {name} is at revision {revision}, and must be migrated to {head} first")
    await lock_tables(new)
    if filled := await filled_tables(new):
        raise CopyError(f"The target must be empty, and has rows in {', '.join(filled)}")


async def copy_table(table: Table, old: Connection, new: AsyncConnection) -> int:
    """Copy the rows of one table, and return their number. Raise CopyError, also when the numbers of rows differ."""
    driver: Any = (await new.get_raw_connection()).driver_connection
    columns = [column.name for column in table.columns]
    with all_rows(table, old) as rows, progress(table.name, count_old(table, old)) as advance:
        records = converted_rows(rows, table, new, advance)
        try:
            await driver.copy_records_to_table(table.name, columns=columns, records=records)
        except (PostgresError, TypeError, ValueError) as error:  # SQLite allows any value in any column.
            raise CopyError(f"Nothing was copied: {table.name}: {error_summary(error)}") from error
    await continue_keys(table, old, new)
    before, after = count_old(table, old), await count_new(table, new)
    if before != after:
        raise CopyError(f"Nothing was copied: {table.name} had {before} rows, of which {after} arrived")
    return after


async def converted_rows(
    rows: Result[tuple[Any, ...]], table: Table, new: AsyncConnection, advance: Callable[[int], None]
) -> AsyncIterator[Sequence[object]]:
    """Yield each row for the driver: SQLAlchemy's types have read it from SQLite, and convert it for PostgreSQL."""
    writers = [column.type.dialect_impl(new.dialect).bind_processor(new.dialect) for column in table.columns]
    for number, row in enumerate(rows, 1):
        yield [writer(value) if writer else value for writer, value in zip(writers, row, strict=True)]
        if number % ROWS_AT_ONCE == 0:
            advance(ROWS_AT_ONCE)


async def continue_keys(table: Table, old: Connection, new: AsyncConnection) -> None:
    """Let the new table's keys begin after the last key that the old table ever gave."""
    for column in table.columns:
        if column.identity is not None:
            await set_next_key(column, new, last_key(column, old) + 1)
