"""Repositories, which hold all statements on their tables: the base class, and that of rows that belong to one user.

They extend Advanced Alchemy's by statements that are built once and run by the driver, by pages by keyset, and by the
rule that only its owner reads and changes a row. A repository is made once for each database when the application
starts, and serves all requests. Its methods that read run by themselves; those that change rows take a transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.repository.typing import ModelT
from msgspec import UNSET, Struct, structs
from sqlalchemy import Select, bindparam, insert, select
from sqlalchemy.sql.dml import ReturningInsert

from app.database.driver import Rows, Statement
from app.database.models import Attribute, Owned, Resource, columns_of, now, table_of
from app.database.pages import Listing, Page, PageQuery
from app.database.search import plan_for_values
from app.database.sessions import Database, Reading, Transaction, rows_in
from app.errors import Forbidden, NotFound, PreconditionFailed

Row = TypeVar("Row", bound=Resource)
OwnedRow = TypeVar("OwnedRow", bound=Owned)
Read = TypeVar("Read", bound=Struct)
Versions = frozenset[int]
Values = Mapping[str, Any]
Data: TypeAlias = Struct | Values


class Repository(SQLAlchemyAsyncRepository[ModelT]):
    """The rows of one table in one database."""

    def __init__(self, database: Database) -> None:
        # SQLAlchemy's errors are kept, since Advanced Alchemy's would make an outage a conflict. INSERT returns the
        # columns that the database fills, so that no second statement has to read them.
        # https://github.com/litestar-org/advanced-alchemy/issues/606, closed; 1.12 still does it.
        super().__init__(session=database.shared_session, wrap_exceptions=False, auto_refresh=False)
        self.database = database

    def within(self, transaction: Transaction) -> Self:
        """Return a copy of the repository in a transaction, where all of Advanced Alchemy's methods work.

        Outside, those that would begin a transaction raise InvalidRequestError.
        """
        bound = copy(self)
        bound.session = transaction
        return bound

    async def rows(self, statement: Statement, values: Values, transaction: Transaction | None = None) -> Rows:
        """Return the rows of a statement that is built once: in a transaction, or by itself and committed at once.

        The values of a row are in the order of the statement's columns, and have no names.
        """
        if transaction is None:
            return await self.database.fetch_prepared(statement, values)
        return await rows_in(transaction, statement, values)

    async def page(self, listing: Listing[Read], query: PageQuery, **values: object) -> Page[Read]:
        """Return one page of a list; `values` are the parameters of the list's `where`.

        A search or a count, which may read very many rows, takes a turn of the caller's. Raise Unavailable.
        """
        if not query.terms and not query.count:
            return await listing.page(self.database.fetch_prepared, query, values)
        async with self.database.turns.turn(query.caller_id):
            return await self._costly_page(listing, query, values)

    async def _costly_page(self, listing: Listing[Read], query: PageQuery, values: Values) -> Page[Read]:
        if not query.terms:
            return await listing.page(self.database.fetch_prepared, query, values)

        async def search(session: Reading) -> Page[Read]:
            await plan_for_values(session)
            return await listing.page(lambda *statement: rows_in(session, *statement), query, values)

        return await self.database.in_session(search)

    async def remove(self, transaction: Transaction, row: ModelT) -> None:
        """Delete a row, and all rows that belong to it."""
        await transaction.delete(row)
        await transaction.flush()


class Versioned(NamedTuple, Generic[Read]):
    """The Struct that shows a row, and the row's version, which each change of the row increments."""

    read: Read
    version: int


class ResourceRepository(Repository[Row], Generic[Row, Read]):
    """The rows of one table, which have versions.

    A subclass says who may read and change a row. It names its model (`model_type`), the Struct that shows a row
    (`read_type`), and the error for a row that isn't there.
    """

    read_type: type[Read]
    not_found: type[NotFound]

    async def row_to_change(
        self,
        transaction: Transaction,
        row_id: int,
        expected: Versions | None,
        permit: Callable[[Row], None] | None = None,
    ) -> Row:
        """Return a row that is about to be changed. Raise `not_found`, and then what `permit` raises for the row.

        With `expected` versions, raise PreconditionFailed when the row has none of them, and later, in `assign` or
        `remove`, StaleDataError when another writer comes first. With None, lock the row: the last writer wins.
        """
        row = await self.within(transaction).get_one_or_none(id=row_id, with_for_update=expected is None)
        if row is None:
            raise self.not_found
        if permit:
            permit(row)
        if expected is not None and row.version not in expected:
            raise PreconditionFailed
        return row

    async def assign(self, transaction: Transaction, row: Row, data: Data) -> None:
        """Set columns of a row; the row keeps its version when their values stay the same."""
        for name, value in given(data).items():
            setattr(row, name, value)
        await transaction.flush()

    def versioned(self, row: Sequence[Any]) -> Versioned[Read]:
        """Return the Struct and the version of a row, whose last column is the version."""
        return Versioned(self.read_type(*row[:-1]), row[-1])


class OwnedRepository(ResourceRepository[OwnedRow, Read]):
    """The rows of one table, each of which only its owner reads and changes.

    The fields of a subclass's `read_type` are names of columns. It may name the error for another owner's row, which
    otherwise isn't found, and the columns by which a list can be ordered, other than the id alone, and in which it can
    be searched (see Listing).
    """

    not_yours: type[Forbidden] | None = None
    orders: Sequence[Attribute] = ()
    searched: Sequence[Attribute] = ()

    listing: Listing[Read]
    select_one: Select[*tuple[Any, ...]]
    insert_one: ReturningInsert[*tuple[Any, ...]]

    def __init_subclass__(cls) -> None:
        """Build the statements of the subclass, once."""
        super().__init_subclass__()
        # Statements read columns into Structs: entities, which reading doesn't need, would double the cost of a list.
        table = table_of(cls.model_type)
        columns = [*columns_of(cls.model_type, cls.read_type), table.c.version]
        cls.insert_one = insert(table).returning(*columns)
        cls.select_one = select(table.c.owner_id, *columns).where(table.c.id == bindparam("id"))
        owned = table.c.owner_id == bindparam("owner_id")
        cls.listing = Listing(
            cls.model_type,
            cls.read_type,
            key=cls.model_type.id,
            orders=cls.orders or [cls.model_type.id],
            searched=cls.searched,
            where=owned,
        )

    async def create(self, owner_id: int, data: Data, transaction: Transaction | None = None) -> Versioned[Read]:
        """Add a row that belongs to the owner, by one INSERT whose RETURNING saves a SELECT."""
        moment = now()
        columns = {**given(data), "owner_id": owner_id, "version": 1, "created_at": moment, "updated_at": moment}
        (row,) = await self.rows(self.insert_one, columns, transaction)
        return self.versioned(row)

    async def owned_page(self, owner_id: int, query: PageQuery) -> Page[Read]:
        """Return one page of the owner's rows."""
        return await self.page(self.listing, query, owner_id=owner_id)

    async def read(self, owner_id: int, row_id: int) -> Versioned[Read]:
        """Return one row of the owner's. Raise `not_found`, and `not_yours` for another owner's row."""
        rows = await self.rows(self.select_one, {"id": row_id})
        if not rows:
            raise self.not_found
        self.permit(owner_id, rows[0][0])
        return self.versioned(rows[0][1:])

    async def to_change(
        self, transaction: Transaction, owner_id: int, row_id: int, expected: Versions | None
    ) -> OwnedRow:
        """Return a row of the owner's as `row_to_change` does. Raise `not_yours`, too."""
        return await self.row_to_change(transaction, row_id, expected, lambda row: self.permit(owner_id, row.owner_id))

    async def change(self, transaction: Transaction, row: OwnedRow, data: Data) -> Versioned[Read]:
        """Set columns of a row as `assign` does, and return what shows the row."""
        await self.assign(transaction, row, data)
        return self.versioned([*(getattr(row, name) for name in self.read_type.__struct_fields__), row.version])

    async def delete_owned(
        self, owner_id: int, row_id: int, expected: Versions | None, transaction: Transaction | None = None
    ) -> None:
        """Delete a row of the owner's, in a transaction of its own unless one is given. Raise as `to_change` does."""
        async with self.database.transaction(transaction) as joined:
            await self.remove(joined, await self.to_change(joined, owner_id, row_id, expected))

    def permit(self, owner_id: int, row_owner_id: int) -> None:
        """Raise `not_yours` unless the row belongs to the owner; no other place says who may read and change a row."""
        if row_owner_id != owner_id:
            raise self.not_yours or self.not_found


def given(data: Data) -> Values:
    """Return values by column: of a Struct its fields, but not those that a client left out of a PATCH (UNSET)."""
    if not isinstance(data, Struct):
        return data
    return {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
