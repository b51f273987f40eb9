"""Engines for PostgreSQL and SQLite, with a time-out on everything that could wait for ever."""

import asyncio
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
from sqlalchemy import URL, Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext
from sqlalchemy.exc import DataError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from app.database.failures import UNSTORABLE
from app.settings.databases import ALREADY_SO, SYSTEM_CERTIFICATES, TLS_PARAMETERS, read_database_url
from app.settings.environment import make_private

# A request takes a connection for its guard and one for its work. It may wait one second for either, and three for the
# database to answer. So every request is answered within five seconds, and no queue grows behind a database that hangs.
POOL_TIMEOUT_SECONDS = 1
COMMAND_TIMEOUT_SECONDS = 3
CLOSE_TIMEOUT_SECONDS = 0.5
POSTGRESQL_SETTINGS = {
    # Milliseconds. A statement or a lock that takes longer is answered with 503, and frees its connection.
    "statement_timeout": "2800",
    "lock_timeout": "2500",
    "idle_in_transaction_session_timeout": "15000",
}
APPLICATION_NAME = {"application_name": "backend-api"}
# asyncpg's `connect` has no argument of these names.
LIBPQ_ONLY = TLS_PARAMETERS | {"dbname", "application_name", "fallback_application_name", "connect_timeout", "options"}

# A pooler gives each transaction another connection to the server, on which the statements that the last one prepared
# are missing. Without names and caches, the driver sends each statement whole.
UNPREPARED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    # https://github.com/sqlalchemy/sqlalchemy/issues/6467, https://github.com/sqlalchemy/sqlalchemy/issues/9608
    "prepared_statement_name_func": lambda: "",
}


class PostgreSQLConnection(asyncpg.Connection):
    """A connection that waits half a second for its close; SQLAlchemy would wait two seconds for a silent server."""

    # SQLAlchemy's two seconds can't be set: https://github.com/sqlalchemy/sqlalchemy/issues/10717
    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - asyncpg's own
        """Close the connection. Raise TimeoutError, which SQLAlchemy expects, when the server doesn't answer."""
        await super().close(timeout=CLOSE_TIMEOUT_SECONDS)


def driver_options(*, pooler: bool) -> dict[str, Any]:
    """Return the options with which asyncpg opens a connection; poolers refuse all settings but the name."""
    options = {
        "timeout": COMMAND_TIMEOUT_SECONDS,
        "command_timeout": COMMAND_TIMEOUT_SECONDS,
        "connection_class": PostgreSQLConnection,
        "server_settings": APPLICATION_NAME if pooler else POSTGRESQL_SETTINGS | APPLICATION_NAME,
    }
    return options | UNPREPARED if pooler else options


def create_engine(url: str, *, pool_size: int, pooler: bool) -> AsyncEngine:
    """Return an engine in AUTOCOMMIT, with a time-out on everything that could wait for ever.

    Its errors don't hold the parameters of statements, since they are logged.
    """
    engine_url = driver_url(url)
    if engine_url.get_backend_name() == "sqlite":
        return sqlite_engine(engine_url, busy_timeout_ms=5000)
    engine = create_async_engine(
        engine_url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_use_lifo=True,
        isolation_level="AUTOCOMMIT",
        connect_args=driver_options(pooler=pooler),
    )
    event.listen(engine.sync_engine, "checkout", refuse_closed)
    return accept_libpq(engine)


def transactional(engine: AsyncEngine, *, pooler: bool = False) -> AsyncEngine:
    """Return an engine for transactions on the same pool; on SQLite they take the write lock when they begin."""
    if engine.dialect.name == "postgresql":
        transactions = engine.execution_options(isolation_level="READ COMMITTED")
        if pooler:
            event.listen(transactions.sync_engine, "begin", set_time_outs)
        return transactions
    writer = engine.execution_options()
    event.listen(writer.sync_engine, "begin", begin_immediate)
    return writer


def set_time_outs(connection: Connection) -> None:
    """Set the time-outs for this transaction, which a pooler doesn't let a connection start with.

    A statement outside of transactions has the driver's own time-out, which cancels it on the server.
    """
    settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in POSTGRESQL_SETTINGS.items())
    connection.exec_driver_sql(f"SELECT {settings}")


def begin_immediate(connection: Connection) -> None:
    """Take SQLite's write lock, so that no update is lost between a transaction's read and its write."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def refuse_closed(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """Have the pool open new connections once the server has closed the pooled ones, which costs no round trip."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def sqlite_engine(url: URL, *, busy_timeout_ms: int) -> AsyncEngine:
    """Return an engine whose connections wait for each other's writes, and enforce foreign keys."""
    # sqlite3 begins no transactions by itself in this mode; `begin_immediate` does.
    engine = create_async_engine(url, hide_parameters=True, isolation_level="AUTOCOMMIT", pool_timeout=3)

    @event.listens_for(engine.sync_engine, "do_connect", once=True)
    def keep_private(*_: object) -> None:
        file = Path(url.database or "")
        with suppress(OSError):  # SQLite says itself what it can't open.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        # SQLite gives the files beside it the same rights, but not when they are there already.
        for path in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
            make_private(path)

    @event.listens_for(engine.sync_engine, "handle_error")
    def name_cause(context: ExceptionContext) -> DataError | None:
        """Say of an error of Python's that the driver raised it: elsewhere it would be a bug."""
        error = context.original_exception
        return DataError(context.statement, None, error) if isinstance(error, UNSTORABLE) else None

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        # The busy time-out comes first: changing the journal mode takes a lock.
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        for pragma in ("journal_mode = wal", "foreign_keys = on", "synchronous = normal"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


async def threads_ended() -> None:
    """Wait for aiosqlite's thread, which after a failed connect still reports its own end to the loop."""
    # Not reported: `_connect` in aiosqlite/core.py has the thread stop, and doesn't wait for it.
    for thread in threading.enumerate():
        if "_connection_worker" in thread.name:
            await asyncio.to_thread(thread.join, 5)


def driver_url(url: str) -> URL:
    """Return the URL with the asyncio driver, which `postgresql://`, `postgres://` and `sqlite:///` don't name."""
    result = read_database_url(url.replace("postgres://", "postgresql://", 1))
    if result.get_backend_name() == "sqlite":
        return result.set(drivername="sqlite+aiosqlite")
    return result.set(drivername="postgresql+asyncpg")


def accept_libpq(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine whose URL may have libpq's parameters."""
    event.listen(engine.sync_engine, "do_connect", translate)
    return engine


def translate(_dialect: Dialect, _entry: ConnectionPoolEntry, _arguments: object, options: dict[str, Any]) -> None:
    """Put libpq's parameters, which the URL has, into asyncpg's words; the settings have checked them."""
    for name in ALREADY_SO.keys() & options.keys():
        del options[name]
    given = {name: options.pop(name) for name in LIBPQ_ONLY & options.keys()}
    if "dbname" in given:
        options["database"] = given["dbname"]
    if seconds := int(given.get("connect_timeout", 0)):
        # Whoever waits for an answer doesn't wait longer than the service allows.
        options["timeout"] = min(seconds, options["timeout"])
    settings = options["server_settings"] = dict(options.get("server_settings") or {})
    if application := given.get("application_name") or given.get("fallback_application_name"):
        settings["application_name"] = application
    if "options" in given:
        settings["options"] = given["options"]
    tls = {name: value for name, value in given.items() if name in TLS_PARAMETERS}
    if tls.get("sslrootcert") == SYSTEM_CERTIFICATES:
        options["ssl"] = True  # the system's certificates and the host's name, as libpq then does
    elif tls:
        # asyncpg reads these from a URL only.
        options["dsn"] = f"postgresql://?{urlencode(tls)}"
