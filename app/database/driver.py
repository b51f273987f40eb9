"""Statements that SQLAlchemy compiles once and asyncpg runs: the hot path on PostgreSQL.

At each execution, SQLAlchemy finds the compiled statement by its structure, and wraps the cursor and the rows. That
takes about as long as all of asyncpg's work. The SQL here is still SQLAlchemy's, as are the pool and the errors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from asyncpg import IntegrityConstraintViolationError, InternalClientError, PostgresError
from asyncpg import InterfaceError as DriverInterfaceError
from sqlalchemy import Dialect, LargeBinary, Pool
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError, EmulatedDBAPIException, IntegrityError, InterfaceError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.util import await_only

Statement: TypeAlias = TypedReturnsRows[*tuple[Any, ...]]
Rows = Sequence[Sequence[Any]]
RunSql = Callable[[str, Sequence[object]], Rows]
"""Runs SQL with the values of $1, $2 and so on, in SQLAlchemy's greenlet."""


class Prepared(NamedTuple):
    """A statement for asyncpg: its SQL, and the names of the parameters that are $1, $2 and so on."""

    sql: str
    names: Sequence[str]


def prepare(statement: Statement, parameters: Mapping[str, object], dialect: Dialect) -> Prepared | None:
    """Return a statement for asyncpg, or None where SQLAlchemy itself must run it.

    It must with another driver, and for types that convert values, for lists, and for defaults of columns. Bytes are
    passed on as they are.
    """
    if not isinstance(dialect, PGDialect_asyncpg):
        return None
    compiled = statement.compile(dialect=dialect, column_keys=list(parameters))
    names = compiled.positiontup or []
    binds, columns = list(compiled.binds.values()), list(statement.exported_columns)
    # That of bytes calls the driver's `Binary`, which is there for drivers that want them wrapped.
    sent = [value.type.dialect_impl(dialect) for value in binds if not isinstance(value.type, LargeBinary)]
    converts = any(kind.bind_processor(dialect) for kind in sent) or any(
        value.type.dialect_impl(dialect).result_processor(dialect, None) for value in columns
    )
    rewritten = any(value.expanding or value.literal_execute for value in binds)
    if converts or rewritten or not set(names) <= parameters.keys():
        return None
    return Prepared(str(compiled), names)


def run_sql(pool: Pool, sql: str, values: Sequence[object]) -> Rows:
    """Return the rows of one statement, in AUTOCOMMIT and SQLAlchemy's greenlet. Raise DBAPIError and OSError.

    A connection that is lost, or whose statement was cancelled, isn't used again.
    """
    connection = connect(pool)
    driver: Any = connection.driver_connection
    try:
        rows: Rows = await_only(driver.fetch(sql, *values))
    except (PostgresError, DriverInterfaceError, InternalClientError) as error:
        # InternalClientError is raised on a connection that the server has said it will close, until it is closed.
        # https://github.com/MagicStack/asyncpg/issues/1069
        lost = driver.is_closed() or isinstance(error, InternalClientError)
        if lost:
            # As SQLAlchemy does: it also drops all pooled connections that are as old as this one.
            pool._invalidate(connection, error)  # noqa: SLF001 - there is no public method for the whole pool
        connection.close()
        raise sqlalchemy_error_type(error)(sql, None, error, connection_invalidated=lost) from error
    except BaseException as error:
        connection.invalidate(error)
        raise
    connection.close()
    return rows


def connect(pool: Pool) -> PoolProxiedConnection:
    """Return a pooled connection. Raise DBAPIError, as an engine does, and OSError."""
    try:
        return pool.connect()
    except EmulatedDBAPIException as error:  # The server takes no connection: it is starting, or has too many.
        raise DBAPIError(None, None, error) from error


def sqlalchemy_error_type(error: Exception) -> type[DBAPIError]:
    """Return SQLAlchemy's class for an error of asyncpg, among those that this application tells apart."""
    match error:
        case IntegrityConstraintViolationError():
            return IntegrityError
        case DriverInterfaceError() | InternalClientError():
            return InterfaceError
    return DBAPIError
