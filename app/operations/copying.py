"""Copies an SQLite database into an empty PostgreSQL one, in one transaction: all of it, or nothing.

Rows keep their keys, and no key that the old database ever handed out is handed out again: an old token may still name
a user who was deleted.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from asyncpg import PostgresError
from sqlalchemy import URL, Connection, NullPool, Result, Table, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.database.engine import driver_url
from app.database.models import Base
from app.database.tables import (
    all_rows,
    begin,
    count_rows,
    filled_tables,
    last_key,
    lock_tables,
    revision_of,
    set_next_key,
)

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"
# Milliseconds. Whoever still writes to the target holds its tables; the copy doesn't wait for them for long.
CONNECT = {"timeout": 10, "server_settings": {"lock_timeout": "3000", "application_name": "backend-api copy"}}


class CopyError(Exception):
    """Why nothing was copied; the message is one line for the operator."""


async def copy_database(source: str, target: URL, report: Callable[[str, int], None]) -> None:
    """Copy every table; report each by its name and the number of its rows. Raise CopyError.

    Rows are read while they are sent, so that memory doesn't grow with the database.
    """
    engine = create_async_engine(postgresql(target), poolclass=NullPool, connect_args=CONNECT)
    try:
        with snapshot(source) as old:
            async with engine.begin() as new:
                await check(old, new)
                for table in Base.metadata.sorted_tables:
                    report(table.name, await copy_table(table, old, new))
    except (SQLAlchemyError, PostgresError, OSError) as error:
        raise CopyError(f"Nothing was copied: {one_line(error)}") from error
    finally:
        await engine.dispose()


def postgresql(target: URL) -> URL:
    """Return the same URL. Raise CopyError when it is of another kind of database."""
    if target.get_backend_name() != "postgresql":
        raise CopyError("DATABASE_URL must be the PostgreSQL database to copy into")
    return target


@contextmanager
def snapshot(source: str) -> Iterator[Connection]:
    """Open the old database as it is at this moment, whoever writes to it meanwhile. Raise CopyError.

    It is opened for reading only: a file that isn't there isn't made.
    """
    path = sqlite_file(source)
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None),
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        begin(connection)
        yield connection


def sqlite_file(source: str) -> Path:
    """Return the file of a URL. Raise CopyError, without the URL, which may be another kind's and hold a password."""
    path = Path((source.startswith("sqlite") and driver_url(source).database) or "")
    if not path.is_file():
        raise CopyError("The source must be sqlite:///file, with a file that is there")
    return path


async def check(old: Connection, new: AsyncConnection) -> None:
    """Lock the new database's tables against others' writes. Raise CopyError unless both are as they must be."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    for name, revision in (("source", revision_of(old)), ("target", await new.run_sync(revision_of))):
        if revision != head:
            raise CopyError(f"The {name} is at revision {revision}, and must be migrated to {head} first")
    await lock_tables(new)
    if filled := await filled_tables(new):
        raise CopyError(f"The target must be empty, and has rows in {', '.join(filled)}")


async def copy_table(table: Table, old: Connection, new: AsyncConnection) -> int:
    """Copy the rows of one table; return their number, which is counted on both sides. Raise CopyError."""
    driver: Any = (await new.get_raw_connection()).driver_connection
    columns = [column.name for column in table.columns]
    with all_rows(table, old) as rows:
        try:
            await driver.copy_records_to_table(table.name, columns=columns, records=converted(rows, table, new))
        except (PostgresError, TypeError, ValueError) as error:  # SQLite takes any value in any column
            raise CopyError(f"Nothing was copied: {table.name}: {one_line(error)}") from error
    await continue_keys(table, old, new)
    before, after = await count_rows(table, old, new)
    if before != after:
        raise CopyError(f"Nothing was copied: {table.name} had {before} rows, of which {after} arrived")
    return after


async def converted(
    rows: Result[tuple[Any, ...]], table: Table, new: AsyncConnection
) -> AsyncIterator[Sequence[object]]:
    """Yield each row as the driver takes it: SQLAlchemy's types read it from SQLite, and write it for PostgreSQL."""
    writers = [column.type.dialect_impl(new.dialect).bind_processor(new.dialect) for column in table.columns]
    for row in rows:
        yield [writer(value) if writer else value for writer, value in zip(writers, row, strict=True)]


async def continue_keys(table: Table, old: Connection, new: AsyncConnection) -> None:
    """Let the new table's keys go on after the last one that the old table handed out, also when it is empty."""
    for column in table.columns:
        if column.identity is not None:
            await set_next_key(column, new, last_key(column, old) + 1)


def one_line(error: Exception) -> str:
    """Return what a database says went wrong, without the statement, its values and further lines."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(cause or type(error).__name__).partition("\n")[0]
