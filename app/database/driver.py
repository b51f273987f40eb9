"""Statements that are compiled once, and run by the driver itself: the hot path of PostgreSQL.

At each execution SQLAlchemy looks a statement up by its structure and wraps its cursor and its rows, which takes about
as long as all that asyncpg does. The SQL here is still SQLAlchemy's, and so are the pool and the errors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from asyncpg import IntegrityConstraintViolationError, InternalClientError, PostgresError
from asyncpg import InterfaceError as DriverInterfaceError
from sqlalchemy import Dialect, Pool
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError, EmulatedDBAPIException, IntegrityError, InterfaceError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.util import await_only

Statement: TypeAlias = TypedReturnsRows[*tuple[Any, ...]]
Rows = Sequence[Sequence[Any]]
Send = Callable[[str, Sequence[object]], Rows]
"""Runs SQL with the values of $1, $2 and so on, in SQLAlchemy's greenlet."""


class Prepared(NamedTuple):
    """A statement as asyncpg takes it: its SQL, and the names of the parameters that are $1, $2 and so on."""

    sql: str
    names: Sequence[str]


def prepare(statement: Statement, parameters: Mapping[str, object], dialect: Dialect) -> Prepared | None:
    """Return a statement as asyncpg takes it; None where SQLAlchemy does more than pass values on.

    It does so for another driver, for types that convert, for lists and for defaults of columns.
    """
    if not isinstance(dialect, PGDialect_asyncpg):
        return None
    compiled = statement.compile(dialect=dialect, column_keys=list(parameters))
    names = compiled.positiontup or []
    taken, given = list(compiled.binds.values()), list(statement.exported_columns)
    converts = any(value.type.dialect_impl(dialect).bind_processor(dialect) for value in taken) or any(
        value.type.dialect_impl(dialect).result_processor(dialect, None) for value in given
    )
    rewritten = any(value.expanding or value.literal_execute for value in taken)
    if converts or rewritten or not set(names) <= parameters.keys():
        return None
    return Prepared(str(compiled), names)


def send(pool: Pool, sql: str, values: Sequence[object]) -> Rows:
    """Return the rows of one statement, in AUTOCOMMIT and SQLAlchemy's greenlet. Raise DBAPIError and OSError.

    A connection that is lost, or whose statement was broken off, isn't used again.
    """
    connection = connect(pool)
    driver: Any = connection.driver_connection
    try:
        rows: Rows = await_only(driver.fetch(sql, *values))
    except (PostgresError, DriverInterfaceError, InternalClientError) as error:
        # The last is raised on a connection whose end the server has announced, but which hasn't ended yet.
        # https://github.com/MagicStack/asyncpg/issues/1069
        lost = driver.is_closed() or isinstance(error, InternalClientError)
        if lost:
            # As SQLAlchemy's own connections do it: those that are as old as this one have ended with it.
            pool._invalidate(connection, error)  # noqa: SLF001 - for the whole pool, there is no public name
        connection.close()
        raise kind_of(error)(sql, None, error, connection_invalidated=lost) from error
    except BaseException as error:
        connection.invalidate(error)
        raise
    connection.close()
    return rows


def connect(pool: Pool) -> PoolProxiedConnection:
    """Return a connection of the pool's. Raise DBAPIError, as an engine does, and OSError."""
    try:
        return pool.connect()
    except EmulatedDBAPIException as error:  # the server takes none: it is starting, or has too many
        raise DBAPIError(None, None, error) from error


def kind_of(error: Exception) -> type[DBAPIError]:
    """Return SQLAlchemy's class for an error of asyncpg, as far as this application tells them apart."""
    match error:
        case IntegrityConstraintViolationError():
            return IntegrityError
        case DriverInterfaceError() | InternalClientError():
            return InterfaceError
    return DBAPIError
