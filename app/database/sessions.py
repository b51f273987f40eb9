"""The sessions of a database: reads in AUTOCOMMIT, and transactions that commit before the answer starts."""

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

from app.database.driver import Prepared, Rows, RunSql, Statement, prepare, run_sql
from app.database.engine import create_engine, transactional
from app.database.turns import Turns

Columns = TypeVarTuple("Columns")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Reading = NewType("Reading", AsyncSession)
"""A session without a transaction: each statement stands by itself. Functions that change rows don't accept it."""

Transaction = NewType("Transaction", AsyncSession)
"""A session in one transaction, which commits at the end of its block and rolls back when the block raises."""


class Database:
    """One engine and its pool; reads run in AUTOCOMMIT, writes in one transaction each."""

    def __init__(self, url: str, *, pool_size: int = 20, pooler: bool = False) -> None:
        """Open no connection yet, and later at most `pool_size`, to PostgreSQL or to a `pooler` (DATABASE_POOLER)."""
        # In AUTOCOMMIT a read costs one round trip instead of three (BEGIN, SELECT, ROLLBACK), and its connection needs
        # no setting and resetting.
        self.engine = create_engine(url, pool_size=pool_size, pooler=pooler)
        self.transactional = transactional(self.engine, pooler=pooler)
        # Methods that would begin a transaction on the shared session, which nothing would end, raise
        # InvalidRequestError.
        self.shared_session = AsyncSession(self.engine, autobegin=False)
        # Costly reads leave half of the connections to all others.
        self.turns = Turns(max(1, pool_size // 2), "searches and counts")
        self.prepared: dict[Statement, Prepared | None] = {}
        # Tracing replaces this function, since SQLAlchemy's events don't see the statements that it runs.
        self.run_sql: RunSql = self._run_sql

    async def provide_transaction(self) -> AsyncGenerator[Transaction]:
        """Give a handler one transaction, which takes a connection at its first statement."""
        async with self.transaction() as transaction:
            yield transaction

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Reading]:
        """Open a session without a transaction, for several reads on one connection."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield Reading(session)

    @asynccontextmanager
    async def transaction(self, outer: Transaction | None = None) -> AsyncGenerator[Transaction]:
        """Open one transaction, which commits at the end of the block and rolls back when it raises.

        Within an `outer` one the block is a part of that.
        """
        if outer is not None:
            yield outer
            return
        async with AsyncSession(self.transactional, expire_on_commit=False) as session, session.begin():
            yield Transaction(session)

    async def fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        """Return the rows of one statement outside any transaction, and give its connection back.

        All of it takes one switch into SQLAlchemy's greenlet; AsyncConnection takes one for each call.
        """
        return await greenlet_spawn(self._fetch, statement, parameters)

    def _fetch(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> Sequence[Row[*Columns]]:
        with self.engine.sync_engine.connect() as connection:
            return connection.execute(statement, parameters).all()

    async def fetch_prepared(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        """Return what `fetch` does, in half the time on PostgreSQL, for a statement that is built once.

        The statement must always have parameters of the same names. It is kept as long as the database.
        """
        if statement not in self.prepared:
            self.prepared[statement] = prepare(statement, parameters, self.engine.dialect)
        prepared = self.prepared[statement]
        if prepared is None:
            return await self.fetch(statement, parameters)
        values = [parameters[name] for name in prepared.names]
        return await greenlet_spawn(self.run_sql, prepared.sql, values)

    def _run_sql(self, sql: str, values: Sequence[object]) -> Rows:
        """Return the rows of SQL that the driver runs. Raise DBAPIError and OSError."""
        return run_sql(self.engine.sync_engine.pool, sql, values)

    async def in_session(self, read: Callable[[Reading], Awaitable[Result]]) -> Result:
        """Return the result of a function that reads more than once, in one session without a transaction."""
        async with self.reading() as session:
            return await read(session)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()


async def rows_in(session: AsyncSession, statement: Statement, parameters: Mapping[str, object]) -> Rows:
    """Return the rows of a statement that runs in a session."""
    # A Row is a sequence, but not by its type.
    return cast("Rows", (await session.execute(statement, parameters)).all())


def after_commit(transaction: Transaction, action: Callable[[], None]) -> None:
    """Call `action` when the transaction has committed; don't call it when it rolls back."""

    def run(_session: SyncSession) -> None:
        action()

    event.listen(transaction.sync_session, "after_commit", run, once=True)


# SQLSTATEs of a transaction that was rolled back so that another could go on: serialization failure, deadlock.
ROLLED_BACK = {"40001", "40P01"}


def retry_on_deadlock(
    function: Callable[Arguments, Awaitable[Result]],
) -> Callable[Arguments, Awaitable[Result]]:
    """Decorate a function to be called a second time when the database rolls it back to end a deadlock.

    The function opens its transactions itself, and must allow that whatever it does outside of them is done twice.
    """

    @wraps(function)
    async def retry(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return await function(*args, **kwargs)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in ROLLED_BACK:
                raise
        return await function(*args, **kwargs)

    return retry
