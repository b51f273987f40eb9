"""Statements on whole tables, with which a database is copied."""

from typing import Any

from sqlalchemy import Column, Connection, Result, Table, func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.models import Base
from app.database.status import REVISION

ROWS_AT_ONCE = 500
LAST_KEY = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
SET_NEXT_KEY = text("SELECT setval(pg_get_serial_sequence(:table, :column), :next, false)")


def revision_of(connection: Connection) -> str | None:
    """Return the revision of a database's last migration, None when it was never migrated."""
    return connection.execute(REVISION).scalar() if inspect(connection).has_table("alembic_version") else None


def begin(connection: Connection) -> None:
    """Begin a transaction, which keeps seeing SQLite's file as it is at the first read."""
    connection.exec_driver_sql("BEGIN")


async def lock_tables(connection: AsyncConnection) -> None:
    """Lock every table of PostgreSQL against writes by others until the transaction ends."""
    names = ", ".join(table.fullname for table in Base.metadata.sorted_tables)
    await connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))


async def filled_tables(connection: AsyncConnection) -> list[str]:
    """Return the names of the tables that have rows."""
    tables = Base.metadata.sorted_tables
    return [table.name for table in tables if (await connection.execute(select(table).limit(1))).first()]


def all_rows(table: Table, connection: Connection) -> Result[tuple[Any, ...]]:
    """Return every row of a table, read ROWS_AT_ONCE at a time."""
    return connection.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE))


def count_old(table: Table, old: Connection) -> int:
    """Return the number of a table's rows in the old database."""
    return old.execute(select(func.count()).select_from(table)).scalar_one()


async def count_new(table: Table, new: AsyncConnection) -> int:
    """Return the number of a table's rows in the new database."""
    return (await new.execute(select(func.count()).select_from(table))).scalar_one()


def last_key(column: Column[Any], connection: Connection) -> int:
    """Return the last key that SQLite gave to a row of a table, even if that row is deleted."""
    highest = connection.execute(select(func.max(column))).scalar() or 0
    last = connection.execute(LAST_KEY, {"table": column.table.name}).scalar() or 0
    return max(highest, last)


async def set_next_key(column: Column[Any], connection: AsyncConnection, key: int) -> None:
    """Set the key that PostgreSQL gives to the next row of a table."""
    after = {"table": column.table.name, "column": column.name, "next": key}
    await connection.execute(SET_NEXT_KEY, after)
