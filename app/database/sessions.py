"""A database and its sessions: reads in AUTOCOMMIT, and transactions that commit before the answer starts."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import NewType, ParamSpec, TypeVar, TypeVarTuple, cast

from sqlalchemy import Row, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session as SyncSession
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.util import greenlet_spawn

from app.database.driver import Prepared, Rows, Send, Statement, prepare, send
from app.database.engine import create_engine, transactional

Columns = TypeVarTuple("Columns")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Reading = NewType("Reading", AsyncSession)
"""A session without a transaction: each statement stands by itself. What changes rows doesn't take it."""

Transaction = NewType("Transaction", AsyncSession)
"""A session in one transaction, which commits at the end of its block and rolls back when the block raises."""


class Database:
    """One engine and its pool; reads run in AUTOCOMMIT, writes in one transaction each."""

    def __init__(self, url: str, *, pool_size: int = 20, pooler: bool = False) -> None:
        """`pool_size` connections at most, to PostgreSQL itself or to a `pooler` before it (DATABASE_POOLER)."""
        # A read then costs one round trip instead of three (BEGIN, SELECT, ROLLBACK), and a connection needs nothing
        # set and reset for it.
        self.engine = create_engine(url, pool_size=pool_size, pooler=pooler)
        self.transactional = transactional(self.engine, pooler=pooler)
        # What would begin a transaction on it, which nobody would end, raises InvalidRequestError.
        self.shared = AsyncSession(self.engine, autobegin=False)
        self.prepared: dict[Statement, Prepared | None] = {}
        # Whoever observes statements replaces this, since SQLAlchemy's events don't see these.
        self.send: Send = self._send

    async def provide_transaction(self) -> AsyncGenerator[Transaction]:
        """Give a handler one transaction, whose first use takes a connection."""
        async with self.transaction() as transaction:
            yield transaction

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Reading]:
        """Open a session without a transaction, for several reads on one connection."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield Reading(session)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Open one transaction, which commits at the end of the block and rolls back when it raises."""
        async with AsyncSession(self.transactional, expire_on_commit=False) as session, session.begin():
            yield Transaction(session)

    async def fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        """Return the rows of one statement outside any transaction; the connection is back in the pool by then.

        One switch into SQLAlchemy's greenlet for the whole of it, where AsyncConnection needs one a call.
        """
        return await greenlet_spawn(self._fetch, statement, parameters)

    def _fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        with self.engine.sync_engine.connect() as connection:
            return connection.execute(statement, parameters).all()

    async def fetch_prepared(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        """Return the same, in half the time on PostgreSQL, for a statement that was built once.

        It always has these parameters, and is kept for as long as the database.
        """
        if statement not in self.prepared:
            self.prepared[statement] = prepare(statement, parameters, self.engine.dialect)
        prepared = self.prepared[statement]
        if prepared is None:
            return await self.fetch(statement, parameters)
        values = [parameters[name] for name in prepared.names]
        return await greenlet_spawn(self.send, prepared.sql, values)

    def _send(self, sql: str, values: Sequence[object]) -> Rows:
        """Have the driver itself run a statement; raise its errors as SQLAlchemy's."""
        return send(self.engine.sync_engine.pool, sql, values)

    async def in_session(self, read: Callable[[Reading], Awaitable[Result]]) -> Result:
        """Read more than once, in one session without a transaction."""
        async with self.reading() as session:
            return await read(session)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()


async def rows_in(session: AsyncSession, statement: Statement, parameters: Mapping[str, object]) -> Rows:
    """Return the rows of a statement that runs in a session."""
    # A Row is a sequence, which its type doesn't say.
    return cast("Rows", (await session.execute(statement, parameters)).all())


def after_commit(transaction: Transaction, action: Callable[[], None]) -> None:
    """Call `action` once the transaction has committed, and not at all when it hasn't."""

    def run(_session: SyncSession) -> None:
        action()

    event.listen(transaction.sync_session, "after_commit", run, once=True)


# SQLSTATEs of a transaction that was rolled back for the sake of another: serialization failure, deadlock.
ROLLED_BACK = {"40001", "40P01"}


def retry_on_deadlock(
    work: Callable[Arguments, Awaitable[Result]],
) -> Callable[Arguments, Awaitable[Result]]:
    """Do work that takes several locks once more when the database has rolled it back to end a deadlock.

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
