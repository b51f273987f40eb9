"""Engines for PostgreSQL and SQLite, with a time-out on everything that could wait for ever."""

from typing import Any

import asyncpg
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

# A request takes a connection for its guard and one for its work: it may wait a second for either, and three for the
# database to answer. So whoever asks has an answer in five, and a queue doesn't grow behind what hangs.
POOL_TIMEOUT = 1
COMMAND_TIMEOUT = 3
CLOSE_TIMEOUT = 0.5
POSTGRESQL_SETTINGS = {
    # Milliseconds. A statement or a lock that takes longer is answered with 503, and its connection comes back.
    "statement_timeout": "2800",
    "lock_timeout": "2500",
    "idle_in_transaction_session_timeout": "15000",
}
NAME = {"application_name": "backend-api"}


# A pooler gives each transaction any connection of the server's: what one of them prepares, the next doesn't find.
# Without a name and without caches, the driver sends a statement whole each time that it is executed.
UNPREPARED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    # https://github.com/sqlalchemy/sqlalchemy/issues/6467, https://github.com/sqlalchemy/sqlalchemy/issues/9608
    "prepared_statement_name_func": lambda: "",
}


class PostgreSQLConnection(asyncpg.Connection):
    """A connection that closes in half a second; SQLAlchemy would have a request wait two for a silent server."""

    # SQLAlchemy's two seconds can't be set: https://github.com/sqlalchemy/sqlalchemy/issues/10717
    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - asyncpg's own
        """Close the connection, whether or not the server answers. Raise TimeoutError, which SQLAlchemy expects."""
        await super().close(timeout=CLOSE_TIMEOUT)


def driver_options(*, pooler: bool) -> dict[str, Any]:
    """Return the options that asyncpg opens a connection with; poolers refuse all settings but the name."""
    options = {
        "timeout": COMMAND_TIMEOUT,
        "command_timeout": COMMAND_TIMEOUT,
        "connection_class": PostgreSQLConnection,
        "server_settings": NAME if pooler else POSTGRESQL_SETTINGS | NAME,
    }
    return options | UNPREPARED if pooler else options


def create_engine(url: str, *, pool_size: int, pooler: bool) -> AsyncEngine:
    """Return the engine of the service: AUTOCOMMIT, and a time-out on everything that could wait for ever.

    Errors are logged, so they leave the parameters of statements out.
    """
    address = driver_url(url)
    if address.get_backend_name() == "sqlite":
        return sqlite_engine(address, busy_timeout_ms=5000)
    engine = create_async_engine(
        address,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
        pool_use_lifo=True,
        isolation_level="AUTOCOMMIT",
        connect_args=driver_options(pooler=pooler),
    )
    event.listen(engine.sync_engine, "checkout", refuse_closed)
    return engine


def transactional(engine: AsyncEngine, *, pooler: bool = False) -> AsyncEngine:
    """Return the engine with transactions, on the same pool; on SQLite they take the write lock when they begin."""
    if engine.dialect.name == "postgresql":
        transactions = engine.execution_options(isolation_level="READ COMMITTED")
        if pooler:
            event.listen(transactions.sync_engine, "begin", set_time_outs)
        return transactions
    writer = engine.execution_options()
    event.listen(writer.sync_engine, "begin", begin_immediate)
    return writer


def set_time_outs(connection: Connection) -> None:
    """Set for this transaction what a pooler doesn't let a connection start with.

    A statement outside of transactions has the driver's own time-out, which cancels it on the server.
    """
    settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in POSTGRESQL_SETTINGS.items())
    connection.exec_driver_sql(f"SELECT {settings}")


def begin_immediate(connection: Connection) -> None:
    """Take SQLite's write lock, so that no update is lost between a transaction's read and its write."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def refuse_closed(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """Open new connections once the server has closed the pooled ones, which asyncpg knows without asking it."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def sqlite_engine(address: URL, *, busy_timeout_ms: int) -> AsyncEngine:
    """Return an engine whose connections wait for one another's writes, and keep foreign keys."""
    # sqlite3 begins no transactions by itself in this mode; `begin_immediate` does.
    engine = create_async_engine(address, hide_parameters=True, isolation_level="AUTOCOMMIT", pool_timeout=3)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        # The busy time-out comes first: changing the journal mode takes a lock.
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        for pragma in ("journal_mode = wal", "foreign_keys = on", "synchronous = normal"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def driver_url(url: str) -> URL:
    """Return the URL with its asyncio driver, which `postgresql://`, `postgres://` and `sqlite:///` don't name."""
    address = make_url(url.replace("postgres://", "postgresql://", 1))
    if address.get_backend_name() == "sqlite":
        return address.set(drivername="sqlite+aiosqlite")
    address = address.set(drivername="postgresql+asyncpg")
    if "sslmode" in address.query:  # libpq's name; asyncpg calls it ssl
        mode = address.query["sslmode"]
        address = address.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return address
