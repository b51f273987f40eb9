"""Pages of a list by keyset (also called seek): each begins after the last row of the one before it, by an index.

With offsets, the database would read every row before the page, and a page would skip or repeat rows while others are
inserted and deleted.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, select, true, tuple_

from app.database.driver import Rows, Statement
from app.database.models import Attribute, Source, columns_of, from_clause_of
from app.database.search import search_conditions, search_parameters

Read = TypeVar("Read", bound=Struct)
Fetch = Callable[[Statement, Mapping[str, object]], Awaitable[Rows]]
"""Runs a statement with its parameters, in a session or by itself, and returns its rows."""


class Position(NamedTuple):
    """The end of a page: its last row's value in the column of the order, and that row's key, which breaks ties."""

    value: str | int | datetime
    key: int


class PageQuery(Struct, frozen=True):
    """A request for a page: at most `limit` rows that contain all terms, in the order of `sort`, after a position.

    `sort` is the name of a column, with `-` before it for descending. `count` asks for the total of all pages. Searches
    and counts are bounded for each `caller_id`. `filters` tell one choice of rows from another, for cursors.
    """

    limit: int
    sort: str
    terms: tuple[str, ...]
    after: Position | None
    count: bool
    caller_id: int
    filters: tuple[str, ...] = ()


class Page(Struct, Generic[Read], frozen=True):
    """The rows of a page, in order.

    `last` is the position of the last row, and None on the last page. `total` is the number of rows on all pages, and
    None where nobody asked for it.
    """

    rows: list[Read]
    last: Position | None
    total: int | None


class Listing(Generic[Read]):
    """The statements that list one source: one for each order and number of terms, built at its first use."""

    def __init__(
        self,
        source: Source,
        read: type[Read],
        *,
        key: Attribute,
        orders: Sequence[Attribute],
        searched: Sequence[Attribute] = (),
        where: ColumnElement[bool] | None = None,
    ) -> None:
        """Prepare a list of the rows that `where` chooses, which may have parameters.

        `read` is the Struct of a row: its fields are the columns to read, among them the orders and the key, which is
        unique. `searched` are the folded columns that a search compares. Each order needs an index of its column and
        the key; that by the key needs one of `key + 0`, or the primary key where there is no `where`.
        """
        self.read = read
        columns = from_clause_of(source).c
        self.columns = columns_of(source, read)
        self.key = columns[key.key]
        self.orders = {order.key: columns[order.key] for order in orders}
        self.searched = [columns[column.key] for column in searched]
        self.where = true() if where is None else where
        # By the bare key, PostgreSQL would read the primary key's index, and skip the rows that `where` doesn't choose.
        self.key_order = self.key if where is None else self.key + literal_column("0")
        self.select = cache(self._select)
        self.count = cache(self._count)

    async def page(self, fetch: Fetch, query: PageQuery, parameters: Mapping[str, object]) -> Page[Read]:
        """Return one page; `parameters` are those of `where`."""
        conditions = {**parameters, **search_parameters(query.terms)}
        bounds: dict[str, object] = {"limit": query.limit + 1}  # One row more tells whether there is a next page.
        if query.after:
            bounds |= query.after._asdict()
        statement = self.select(query.sort, len(query.terms), after=query.after is not None)
        fetched = await fetch(statement, conditions | bounds)
        rows = [self.read(*row) for row in fetched[: query.limit]]
        last = self._position(rows[-1], query.sort) if len(fetched) > query.limit else None
        total = (await fetch(self.count(len(query.terms)), conditions))[0][0] if query.count else None
        return Page(rows, last, total)

    def _position(self, row: Read, sort: str) -> Position:
        return Position(getattr(row, sort.removeprefix("-")), getattr(row, self.key.key))

    def _select(self, sort: str, terms: int, *, after: bool) -> Select[Any]:
        order = self.orders[sort.removeprefix("-")]
        columns = {"key": self.key_order} if order is self.key else {"value": order, "key": self.key}
        position = tuple_(*columns.values())
        last = tuple_(*(bindparam(name, type_=column.type) for name, column in columns.items()))
        if sort.startswith("-"):
            ordering, beyond = [column.desc() for column in columns.values()], position < last
        else:
            ordering, beyond = [column.asc() for column in columns.values()], position > last
        conditions = [self.where, *search_conditions(self.searched, terms), *([beyond] if after else [])]
        return select(*self.columns).where(*conditions).order_by(*ordering).limit(bindparam("limit"))

    def _count(self, terms: int) -> Select[int]:
        return select(func.count(self.key)).where(self.where, *search_conditions(self.searched, terms))
