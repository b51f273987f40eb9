"""Pages of a list by keyset (also called seek): each begins where the one before it ended, at a position in an index.

An offset would read every row that it skips, and skip or repeat rows while others insert and delete.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, select, true, tuple_
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute

from app.database.driver import Rows, Statement
from app.database.models import columns_of, table_of
from app.database.search import matches, patterns

Read = TypeVar("Read", bound=Struct)
Fetch = Callable[[Statement, Mapping[str, object]], Awaitable[Rows]]
"""Runs a statement with its parameters, wherever that may be."""


class Position(NamedTuple):
    """Where a page ends: its last row's value in the list's order, and that row's key, which breaks ties."""

    value: str | int | datetime
    key: int


class PageQuery(Struct, frozen=True):
    """The page that is wanted: at most `limit` rows with all the terms, in the order of `sort`, after a position."""

    limit: int
    sort: str
    terms: tuple[str, ...]
    after: Position | None
    count: bool


class Page(Struct, Generic[Read], frozen=True):
    """Rows in order; `last` is the position of the last of them when there are more, `total` how many match in all."""

    rows: list[Read]
    last: Position | None
    total: int | None


class Listing(Generic[Read]):
    """The statements that list one table; each kind of page has its own, built at its first use."""

    def __init__(
        self,
        model: type[DeclarativeBase],
        read: type[Read],
        *,
        key: InstrumentedAttribute[int],
        orders: Sequence[InstrumentedAttribute[Any]],
        searched: Sequence[InstrumentedAttribute[str]] = (),
        where: ColumnElement[bool] | None = None,
    ) -> None:
        """`read` names the columns to read, among them the orders and the key, which is unique.

        `where` chooses the rows, and may have parameters; each order needs an index of what it compares, the order and
        the key, or `key + 0` alone. `searched` are folded columns.
        """
        self.read = read
        table = table_of(model)
        self.columns = columns_of(model, read)
        self.key = table.c[key.key]
        self.orders = {order.key: table.c[order.key] for order in orders}
        self.searched = [table.c[column.key] for column in searched]
        self.where = true() if where is None else where
        # Not the bare key: PostgreSQL would walk the primary key past the rows of others, however many there are.
        self.in_order = self.key if where is None else self.key + literal_column("0")
        self.select = cache(self._select)
        self.count = cache(self._count)

    async def page(self, fetch: Fetch, query: PageQuery, parameters: Mapping[str, object]) -> Page[Read]:
        """Return one page of the rows that `where` chooses by its parameters."""
        chosen = {**parameters, **patterns(query.terms)}
        place: dict[str, object] = {"limit": query.limit + 1}  # The one more says whether there is a next page.
        if query.after:
            place |= query.after._asdict()
        statement = self.select(query.sort, len(query.terms), after=query.after is not None)
        found = await fetch(statement, chosen | place)
        rows = [self.read(*row) for row in found[: query.limit]]
        last = self._position(rows[-1], query.sort) if len(found) > query.limit else None
        total = (await fetch(self.count(len(query.terms)), chosen))[0][0] if query.count else None
        return Page(rows, last, total)

    def _position(self, row: Read, sort: str) -> Position:
        return Position(getattr(row, sort.removeprefix("-")), getattr(row, self.key.key))

    def _select(self, sort: str, terms: int, *, after: bool) -> Select[Any]:
        order = self.orders[sort.removeprefix("-")]
        named = {"key": self.in_order} if order is self.key else {"value": order, "key": self.key}
        place = tuple_(*named.values())
        last = tuple_(*(bindparam(name, type_=column.type) for name, column in named.items()))
        if sort.startswith("-"):
            ordering, beyond = [column.desc() for column in named.values()], place < last
        else:
            ordering, beyond = [column.asc() for column in named.values()], place > last
        conditions = [self.where, *matches(self.searched, terms), *([beyond] if after else [])]
        return select(*self.columns).where(*conditions).order_by(*ordering).limit(bindparam("limit"))

    def _count(self, terms: int) -> Select[int]:
        return select(func.count(self.key)).where(self.where, *matches(self.searched, terms))
