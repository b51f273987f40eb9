"""The database: the declarative base, the engine, and the two ways of using it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeAlias, TypeVar, TypeVarTuple

import asyncpg
from advanced_alchemy.types import DateTimeUTC
from sqlalchemy import URL, BigInteger, Connection, DateTime, Identity, Integer, MetaData, Row, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm import Session as SyncSession
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.util import greenlet_spawn

from app.prepared import Prepared, Rows, Send, Statement, prepare, send

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
Columns = TypeVarTuple("Columns")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
BigInt = BigInteger().with_variant(Integer(), "sqlite")
# SQLite knows no zones; PostgreSQL's driver gives times in UTC, and takes none without a zone.
Moment = DateTime(timezone=True).with_variant(DateTimeUTC(), "sqlite")
PrimaryKey = Annotated[int, mapped_column(BigInt, Identity(), primary_key=True)]


class Base(DeclarativeBase):
    """What every table has: a naming convention, 64-bit keys, times in UTC with their zone."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {int: BigInt, datetime: Moment}
    # SQLite would hand the highest deleted id out again, and an old token would name a new user.
    __table_args__: Any = {"sqlite_autoincrement": True}


def now() -> datetime:
    """The time, in UTC with its zone."""
    return datetime.now(UTC)


class Timestamps:
    """When a row was made and last changed."""

    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Database:
    """One engine and its pool; reads run in AUTOCOMMIT, writes in one transaction each."""

    def __init__(self, url: str, *, pool_size: int = 20, pooler: bool = False) -> None:
        """`pool_size` connections at most, to PostgreSQL itself or to a `pooler` before it (DATABASE_POOLER)."""
        # A read then costs one round trip instead of three (BEGIN, SELECT, ROLLBACK), and a connection needs nothing
        # set and reset for it.
        self.engine = create_engine(url, pool_size=pool_size, pooler=pooler)
        self.transactional = transactional(self.engine, pooler=pooler)
        self.prepared: dict[Statement, Prepared | None] = {}
        # Whoever observes statements takes its place, since SQLAlchemy's events don't see these.
        self.send: Send = self._send

    async def read(self) -> AsyncGenerator[AsyncSession]:
        """A session without a transaction; its connection goes back when the handler is done."""
        async with self.reading() as session:
            yield session

    async def write(self) -> AsyncGenerator[AsyncSession]:
        """A session in one transaction, which commits before the answer starts; its first use takes a connection."""
        async with self.transaction() as session:
            yield session

    def reading(self) -> AsyncSession:
        """A session without a transaction, to be used as a context manager."""
        return AsyncSession(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession]:
        """One transaction that commits at the end of the block and rolls back when it raises."""
        async with AsyncSession(self.transactional, expire_on_commit=False) as session, session.begin():
            yield session

    async def fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        """The rows of one statement outside any transaction; the connection is back in the pool when it returns.

        One switch into SQLAlchemy's greenlet for the whole of it, where AsyncConnection needs one a call.
        """
        return await greenlet_spawn(self._fetch, statement, parameters)

    def _fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        with self.engine.sync_engine.connect() as connection:
            return connection.execute(statement, parameters).all()

    async def fetch_prepared(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        """The same, in half the time on PostgreSQL, of a statement that was built once and always has these parameters.

        It is kept for as long as the database.
        """
        if statement not in self.prepared:
            self.prepared[statement] = prepare(statement, parameters, self.engine.dialect)
        prepared = self.prepared[statement]
        if prepared is None:
            return await self.fetch(statement, parameters)
        values = [parameters[name] for name in prepared.names]
        return await greenlet_spawn(self.send, prepared.sql, values)

    def _send(self, sql: str, values: Sequence[object]) -> Rows:
        """Have the driver itself run a statement; its errors are raised as SQLAlchemy's."""
        return send(self.engine.sync_engine.pool, sql, values)

    async def in_session(self, read: Callable[[AsyncSession], Awaitable[Result]]) -> Result:
        """Read more than once, in one session without a transaction."""
        async with self.reading() as session:
            return await read(session)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()


Work: TypeAlias = Database | AsyncSession
"""Where a statement runs: by itself, committed at once, or in a session's transaction."""


async def rows_of(work: Work, statement: Statement, parameters: Mapping[str, object]) -> Rows:
    """The rows of a statement that was built once, which is run there; they go by position."""
    if isinstance(work, Database):
        return await work.fetch_prepared(statement, parameters)
    return (await work.execute(statement, parameters)).all()


def after_commit(session: AsyncSession, action: Callable[[], None]) -> None:
    """Do something once the session's transaction has committed, and not at all when it hasn't."""

    def run(_session: SyncSession) -> None:
        action()

    event.listen(session.sync_session, "after_commit", run, once=True)


# SQLSTATEs of a transaction that was rolled back for the sake of another: serialization failure, deadlock.
ROLLED_BACK = {"40001", "40P01"}


def again_after_deadlock(
    work: Callable[Arguments, Awaitable[Result]],
) -> Callable[Arguments, Awaitable[Result]]:
    """Let work that takes several locks be done once more when the database has rolled it back to end a deadlock.

    The work opens its transactions itself, and what it does outside of them may be done twice.
    """

    @wraps(work)
    async def twice(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return await work(*args, **kwargs)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in ROLLED_BACK:
                raise
        return await work(*args, **kwargs)

    return twice


# A request takes a connection for its guard and one for its work: it may wait a second for either, and three for the
# database to answer. So whoever asks has an answer in five, and a queue doesn't grow behind what hangs.
POOL_TIMEOUT = 1
COMMAND_TIMEOUT = 3
GOODBYE_TIMEOUT = 0.5
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
    "prepared_statement_name_func": lambda: "",
}


class PostgreSQLConnection(asyncpg.Connection):
    """A connection that is closed in half a second; SQLAlchemy would have a request wait two for a silent server."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - asyncpg's own
        """Say goodbye, and hang up in any case. Raises TimeoutError, which SQLAlchemy expects."""
        await super().close(timeout=GOODBYE_TIMEOUT)


def driver_options(*, pooler: bool) -> dict[str, Any]:
    """What a connection starts with; poolers refuse all settings but the name."""
    options = {
        "timeout": COMMAND_TIMEOUT,
        "command_timeout": COMMAND_TIMEOUT,
        "connection_class": PostgreSQLConnection,
        "server_settings": NAME if pooler else POSTGRESQL_SETTINGS | NAME,
    }
    return options | UNPREPARED if pooler else options


def create_engine(url: str, *, pool_size: int, pooler: bool) -> AsyncEngine:
    """The engine of the service, with a time-out on everything that could wait for ever.

    Its errors are logged, so they don't tell the parameters of statements.
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
    event.listen(engine.sync_engine, "checkout", refuse_dead)
    return engine


def transactional(engine: AsyncEngine, *, pooler: bool = False) -> AsyncEngine:
    """The same engine, on the same pool, with transactions; on SQLite they take the write lock when they begin."""
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


def refuse_dead(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """Open new connections once the server has closed the pooled ones, which asyncpg knows without asking it."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def sqlite_engine(address: URL, *, busy_timeout_ms: int) -> AsyncEngine:
    """An engine whose connections wait for one another's writes, and keep foreign keys."""
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
    """The URL with its asyncio driver: plain `postgresql://`, `postgres://` and `sqlite:///` name none."""
    address = make_url(url.replace("postgres://", "postgresql://", 1))
    if address.get_backend_name() == "sqlite":
        return address.set(drivername="sqlite+aiosqlite")
    address = address.set(drivername="postgresql+asyncpg")
    if "sslmode" in address.query:  # libpq's name; asyncpg calls it ssl
        mode = address.query["sslmode"]
        address = address.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return address
