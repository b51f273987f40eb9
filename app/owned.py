"""Rows that belong to one user: nobody else reads or touches them.

The rule stands here once, for every such table. A feature's service names its table, what is shown of a row, and its
errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from msgspec import UNSET, Struct, structs
from sqlalchemy import ForeignKey, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, Mapped, declared_attr, mapped_column

from app.db import Base, Database, PrimaryKey, Timestamps, Work, now, rows_of
from app.errors import Forbidden, NotFound, PreconditionFailed
from app.paging import Listing, Page, PageQuery, columns_of, table_of

Versions = frozenset[int]


class Owned(Timestamps, Base):
    """A table of such rows. SQLAlchemy counts their version up, and compares it, at each UPDATE and DELETE of one."""

    __abstract__ = True

    id: Mapped[PrimaryKey]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column(default=1)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - SQLAlchemy calls it with the class
        return {"version_id_col": cls.version}


Row = TypeVar("Row", bound=Owned)
Read = TypeVar("Read", bound=Struct)


class OwnedTable(Generic[Row, Read]):
    """One such table: how its rows are shown and listed, and the errors for one that is missing or somebody else's."""

    def __init__(
        self,
        model: type[Row],
        read: type[Read],
        *,
        missing: type[NotFound],
        foreign: type[Forbidden],
        orders: Sequence[InstrumentedAttribute[Any]],
        searched: Sequence[InstrumentedAttribute[str]] = (),
    ) -> None:
        """The fields of `read` are names of columns. `orders` and `searched` are as Listing has them."""
        self.model = model
        self.read = read
        self.missing = missing
        self.foreign = foreign
        # Columns straight into Structs: entities, which reading doesn't need, would double the cost of a list.
        table = table_of(model)
        columns = [*columns_of(model, read), table.c.version]
        self.insert = insert(table).returning(*columns)
        self.select = select(table.c.owner_id, *columns).where(table.c.id == bindparam("id"))
        owned = table.c.owner_id == bindparam("owner_id")
        self.listing = Listing(model, read, key=model.id, orders=orders, searched=searched, where=owned)


class OwnedService(Generic[Row, Read]):
    """What an owner does with their rows; a row's version comes with it."""

    table: OwnedTable[Row, Read]

    def __init__(self, work: Work) -> None:
        """Reading and creating are one statement each, which may run by itself; the rest needs a transaction.

        The caller commits the session's transaction.
        """
        self.work = work

    @property
    def session(self) -> AsyncSession:
        """The session whose transaction the work is in. Raises TypeError when it is in none."""
        if isinstance(self.work, Database):
            raise TypeError("Changing a row takes a session in a transaction")
        return self.work

    def derived(self, values: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - for those that override it
        """The columns that follow from others, a search's text say; asked before each insert and update."""
        return {}

    async def create(self, owner_id: int, data: Struct) -> tuple[Read, int]:
        """A new row of that owner's; one INSERT whose RETURNING saves the SELECT after it."""
        values, moment = structs.asdict(data), now()
        columns = {"owner_id": owner_id, "version": 1, "created_at": moment, "updated_at": moment}
        (row,) = await rows_of(self.work, self.table.insert, values | columns | self.derived(values))
        return self.table.read(*row[:-1]), row[-1]

    async def page(self, owner_id: int, query: PageQuery) -> Page[Read]:
        """One page of the owner's rows."""
        return await self.table.listing.page(self.work, query, owner_id=owner_id)

    async def read(self, owner_id: int, row_id: int) -> tuple[Read, int]:
        """One row. Raises the table's errors."""
        rows = await rows_of(self.work, self.table.select, {"id": row_id})
        if not rows:
            raise self.table.missing
        row = rows[0]
        if row[0] != owner_id:
            raise self.table.foreign
        return self.table.read(*row[1:-1]), row[-1]

    async def update(self, owner_id: int, row_id: int, data: Struct, expected: Versions | None) -> tuple[Read, int]:
        """The row with the fields of `data` that are set; when they change nothing, it keeps its version.

        Raises the table's errors, and PreconditionFailed when the version is none of those expected. Without any, the
        last writer wins.
        """
        row = await self._find(owner_id, row_id, expected)
        values = {name: getattr(row, name) for name in data.__struct_fields__}
        values |= {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
        for name, value in (values | self.derived(values)).items():
            setattr(row, name, value)
        await self.session.flush()
        return self.table.read(*(getattr(row, name) for name in self.table.read.__struct_fields__)), row.version

    async def delete(self, owner_id: int, row_id: int, expected: Versions | None) -> None:
        """Delete the row. Raises what `update` does."""
        await self.session.delete(await self._find(owner_id, row_id, expected))
        await self.session.flush()

    async def _find(self, owner_id: int, row_id: int, expected: Versions | None) -> Row:
        """The row, to be changed: locked, unless its version will tell whether another writer came first."""
        row = await self.session.get(self.table.model, row_id, with_for_update=expected is None)
        if row is None:
            raise self.table.missing
        if row.owner_id != owner_id:
            raise self.table.foreign
        if expected is not None and row.version not in expected:
            raise PreconditionFailed
        return row
