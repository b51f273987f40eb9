"""Repositories: each holds every statement on its tables, and they are made once, when the application starts.

They are Advanced Alchemy's, with what it lacks: statements that are built once and run by the driver, pages by keyset,
and the rule of rows that belong to one user. One repository serves all requests to a database. What reads runs by
itself; what changes rows takes the transaction that it is part of.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Generic, NamedTuple, Self, TypeVar

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.repository.typing import ModelT
from msgspec import UNSET, Struct, structs
from sqlalchemy import Select, bindparam, insert, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.dml import ReturningInsert

from app.database.driver import Rows, Statement
from app.database.models import Owned, columns_of, now, table_of
from app.database.pages import Listing, Page, PageQuery
from app.database.search import plan_by_values
from app.database.sessions import Database, Reading, Transaction, rows_in
from app.errors import Forbidden, NotFound, PreconditionFailed

Row = TypeVar("Row", bound=Owned)
Read = TypeVar("Read", bound=Struct)
Versions = frozenset[int]
Values = Mapping[str, Any]


class Repository(SQLAlchemyAsyncRepository[ModelT]):
    """The rows of one table in one database."""

    def __init__(self, database: Database) -> None:
        # The driver's own errors are kept: Advanced Alchemy's would call an outage a conflict. INSERT returns what the
        # database adds, so that no second statement has to read it.
        # https://github.com/litestar-org/advanced-alchemy/issues/606, closed; 1.12 still does it.
        super().__init__(session=database.shared, wrap_exceptions=False, auto_refresh=False)
        self.database = database

    def within(self, transaction: Transaction) -> Self:
        """Return the repository in a transaction, where all of Advanced Alchemy's methods work.

        On the shared session, those that would begin a transaction raise InvalidRequestError.
        """
        bound = copy(self)
        bound.session = transaction
        return bound

    async def rows(self, statement: Statement, values: Values, transaction: Transaction | None = None) -> Rows:
        """Return the rows of a statement that was built once: in the transaction, or by itself and committed at once.

        Rows go by position.
        """
        if transaction is None:
            return await self.database.fetch_prepared(statement, values)
        return await rows_in(transaction, statement, values)

    async def page(self, listing: Listing[Read], query: PageQuery, **values: object) -> Page[Read]:
        """Return one page of a list; `values` are the parameters of what chooses its rows."""
        if not query.terms:
            return await listing.page(self.database.fetch_prepared, query, values)

        async def search(session: Reading) -> Page[Read]:
            await plan_by_values(session)
            return await listing.page(lambda *statement: rows_in(session, *statement), query, values)

        return await self.database.in_session(search)


class Versioned(NamedTuple, Generic[Read]):
    """What is shown of a row, and the row's version."""

    read: Read
    version: int


class OwnedRepository(Repository[Row], Generic[Row, Read]):
    """Rows that belong to one user: nobody else reads or changes them. The rule stands here, for every such table.

    A subclass names its model, the Struct that shows a row, whose fields are names of columns, its errors, and the
    columns that a list is ordered by and searched in, as Listing has them.
    """

    read_type: type[Read]
    not_found: type[NotFound]
    not_yours: type[Forbidden]
    orders: Sequence[InstrumentedAttribute[Any]]
    searched: Sequence[InstrumentedAttribute[str]] = ()

    listing: Listing[Read]
    select_one: Select[*tuple[Any, ...]]
    insert_one: ReturningInsert[*tuple[Any, ...]]

    def __init_subclass__(cls) -> None:
        """Build the statements of the subclass, once."""
        super().__init_subclass__()
        # Columns straight into Structs: entities, which reading doesn't need, would double the cost of a list.
        table = table_of(cls.model_type)
        columns = [*columns_of(cls.model_type, cls.read_type), table.c.version]
        cls.insert_one = insert(table).returning(*columns)
        cls.select_one = select(table.c.owner_id, *columns).where(table.c.id == bindparam("id"))
        owned = table.c.owner_id == bindparam("owner_id")
        cls.listing = Listing(
            cls.model_type,
            cls.read_type,
            key=cls.model_type.id,
            orders=cls.orders,
            searched=cls.searched,
            where=owned,
        )

    async def create(self, owner_id: int, values: Values, transaction: Transaction | None = None) -> Versioned[Read]:
        """Add a row of that owner's, by one INSERT whose RETURNING saves a SELECT."""
        moment = now()
        given = {**values, "owner_id": owner_id, "version": 1, "created_at": moment, "updated_at": moment}
        (row,) = await self.rows(self.insert_one, given, transaction)
        return self.shown(row)

    async def owned_page(self, owner_id: int, query: PageQuery) -> Page[Read]:
        """Return one page of the owner's rows."""
        return await self.page(self.listing, query, owner_id=owner_id)

    async def read(self, owner_id: int, row_id: int) -> Versioned[Read]:
        """Return one row. Raise `not_found` and `not_yours`."""
        rows = await self.rows(self.select_one, {"id": row_id})
        if not rows:
            raise self.not_found
        self.permit(owner_id, rows[0][0])
        return self.shown(rows[0][1:])

    async def to_change(self, transaction: Transaction, owner_id: int, row_id: int, expected: Versions | None) -> Row:
        """Return a row to be changed: locked, unless its version will tell whether another writer came first.

        Raise `not_found` and `not_yours`, and PreconditionFailed when the version is none of those expected. Without
        any, the last writer wins.
        """
        row = await self.within(transaction).get_one_or_none(id=row_id, with_for_update=expected is None)
        if row is None:
            raise self.not_found
        self.permit(owner_id, row.owner_id)
        if expected is not None and row.version not in expected:
            raise PreconditionFailed
        return row

    async def change(self, transaction: Transaction, row: Row, values: Values) -> Versioned[Read]:
        """Set columns of a row; when they change nothing, it keeps its version."""
        for name, value in values.items():
            setattr(row, name, value)
        await transaction.flush()
        return self.shown([*(getattr(row, name) for name in self.read_type.__struct_fields__), row.version])

    async def remove(self, transaction: Transaction, row: Row) -> None:
        """Delete a row."""
        await transaction.delete(row)
        await transaction.flush()

    def permit(self, owner_id: int, row_owner_id: int) -> None:
        """Let an owner have their row. Raise `not_yours` for somebody else's."""
        if row_owner_id != owner_id:
            raise self.not_yours

    def shown(self, row: Sequence[Any]) -> Versioned[Read]:
        """Return what is shown of a row of the statements above."""
        return Versioned(self.read_type(*row[:-1]), row[-1])


def given(data: Struct) -> dict[str, Any]:
    """Return the fields of a PATCH that the client has set; those that it left out are UNSET."""
    return {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
