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
from sqlalchemy import URL, Connection, NullPool, Result, Table, create_engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.db import Base, driver_url
from app.health import REVISION

MIGRATIONS = Path(__file__).parent.parent / "migrations"
# Milliseconds. Whoever still writes to the target holds its tables; the copy doesn't wait for them for long.
CONNECT = {"timeout": 10, "server_settings": {"lock_timeout": "3000", "application_name": "backend-api copy"}}
ROWS_AT_ONCE = 500
LAST_KEY = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
SET_NEXT_KEY = text("SELECT setval(pg_get_serial_sequence(:table, :column), :next, false)")


class CopyError(Exception):
    """Why nothing was copied; the message is one line for the operator."""


async def copy_database(source: str, target: URL, report: Callable[[str, int], None]) -> None:
    """Copy every table; each is reported by its name and the number of its rows. Raises CopyError.

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
    """The same URL. Raises CopyError when it is of another kind of database."""
    if target.get_backend_name() != "postgresql":
        raise CopyError("DATABASE_URL must be the PostgreSQL database to copy into")
    return target


@contextmanager
def snapshot(source: str) -> Iterator[Connection]:
    """The old database as it is at this moment, whoever writes to it meanwhile. Raises CopyError.

    It is opened for reading only: a file that isn't there isn't made.
    """
    path = sqlite_file(source)
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None),
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        yield connection


def sqlite_file(source: str) -> Path:
    """The file of a URL. Raises CopyError, without the URL, which may be another kind's and hold a password."""
    path = Path((source.startswith("sqlite") and driver_url(source).database) or "")
    if not path.is_file():
        raise CopyError("The source must be sqlite:///file, with a file that is there")
    return path


async def check(old: Connection, new: AsyncConnection) -> None:
    """Lock the new database's tables against others' writes. Raises CopyError unless both are as they must be."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    for name, revision in (("source", revision_of(old)), ("target", await new.run_sync(revision_of))):
        if revision != head:
            raise CopyError(f"The {name} is at revision {revision}, and must be migrated to {head} first")
    tables = Base.metadata.sorted_tables
    await new.execute(text(f"LOCK TABLE {', '.join(table.fullname for table in tables)} IN EXCLUSIVE MODE"))
    if filled := [table.name for table in tables if (await new.execute(select(table).limit(1))).first()]:
        raise CopyError(f"The target must be empty, and has rows in {', '.join(filled)}")


def revision_of(connection: Connection) -> str | None:
    """Which migration a database is at; None when it was never migrated."""
    return connection.execute(REVISION).scalar() if inspect(connection).has_table("alembic_version") else None


async def copy_table(table: Table, old: Connection, new: AsyncConnection) -> int:
    """Copy the rows of one table; gives their number, which is counted on both sides. Raises CopyError."""
    driver: Any = (await new.get_raw_connection()).driver_connection
    columns = [column.name for column in table.columns]
    with old.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE)) as rows:
        try:
            await driver.copy_records_to_table(table.name, columns=columns, records=converted(rows, table, new))
        except (PostgresError, TypeError, ValueError) as error:  # SQLite takes any value in any column
            raise CopyError(f"Nothing was copied: {table.name}: {one_line(error)}") from error
    await continue_keys(table, old, new)
    count = select(func.count()).select_from(table)
    before, after = old.execute(count).scalar_one(), (await new.execute(count)).scalar_one()
    if before != after:
        raise CopyError(f"Nothing was copied: {table.name} had {before} rows, of which {after} arrived")
    return after


async def converted(
    rows: Result[tuple[Any, ...]], table: Table, new: AsyncConnection
) -> AsyncIterator[Sequence[object]]:
    """Each row as the driver takes it: SQLAlchemy's types have read it from SQLite, and write it for PostgreSQL."""
    writers = [column.type.dialect_impl(new.dialect).bind_processor(new.dialect) for column in table.columns]
    for row in rows:
        yield [writer(value) if writer else value for writer, value in zip(writers, row, strict=True)]


async def continue_keys(table: Table, old: Connection, new: AsyncConnection) -> None:
    """Let the new table's keys go on after the last one that the old table handed out, also when it is empty."""
    for column in table.columns:
        if column.identity is not None:
            highest = old.execute(select(func.max(column))).scalar() or 0
            last = old.execute(LAST_KEY, {"table": table.name}).scalar() or 0
            after = {"table": table.name, "column": column.name, "next": max(highest, last) + 1}
            await new.execute(SET_NEXT_KEY, after)


def one_line(error: Exception) -> str:
    """What a database says went wrong, without the statement, its values and further lines."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(cause or type(error).__name__).partition("\n")[0]
