"""Pages of a list by keyset (also called seek): each begins where the one before it ended, at a position in an index.

An offset would read every row that it skips, and skip or repeat rows while others insert and delete.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from litestar import Request, Response
from litestar.datastructures import ResponseHeader
from litestar.openapi.spec import Example
from litestar.params import QueryParameter
from msgspec import Struct
from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute

from app.db import Database, Work, rows_of
from app.errors import InvalidField, InvalidFields
from app.search import matches, patterns, plan_by_values, terms_of

Limit = Annotated[
    int, QueryParameter(ge=1, le=100, description="The most that one page holds.", examples=[Example(value=20)])
]
Cursor = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=2000,
        description="Where the page begins: from the `Link` of the page before, with whose `sort` and `q` it goes.",
    ),
]
Search = Annotated[
    str | None,
    QueryParameter(
        max_length=200,
        description="Words, at most 10: what has all of them, in any case, whole or as a part of longer ones.",
        examples=[Example(value="umbr BLACK")],
    ),
]
Count = Annotated[
    bool,
    QueryParameter(
        description="Whether to count those on all pages, into `X-Total-Count`.", examples=[Example(value=True)]
    ),
]

PAGE_HEADERS = [
    ResponseHeader(
        name="Link",
        description='The next page: `<URL>; rel="next"` (RFC 8288). The last page has none.',
        documentation_only=True,
    ),
    ResponseHeader(
        name="X-Total-Count",
        description="How many there are on all pages, when `count=true` asked for it.",
        documentation_only=True,
    ),
]
MAC_BYTES = 16

Read = TypeVar("Read", bound=Struct)
AnyRequest = Request[Any, Any, Any]


class Position(NamedTuple):
    """Where a page ends: its last row's value in the list's order, and that row's key, which breaks ties."""

    value: str | int | datetime
    key: int


class PageQuery(Struct, frozen=True):
    """Which page is wanted: at most `limit` rows with all the terms, in the order of `sort`, after a position."""

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


class InvalidCursor(InvalidFields):
    """The cursor is forged, or was given out for another list, user, order or search."""

    def __init__(self) -> None:
        super().__init__(InvalidField("/cursor", "is not one that this list gave out"))


class Cursors:
    """Seals positions so that a client can't bend them: not into another place, list, user, order or search."""

    def __init__(self, *secrets: str) -> None:
        """The first secret seals; what an earlier one has sealed opens too. Empty ones don't count."""
        self.keys = [hmac.digest(secret.encode(), b"cursors", "sha256") for secret in secrets if secret]

    def seal(self, position: Position, *scope: object) -> str:
        """The cursor of a position within what `scope` names."""
        return self._token(self.keys[0], msgspec.msgpack.encode(position), scope)

    def open(self, cursor: str, *scope: object) -> Position:
        """The position that was sealed for the same scope. Raises InvalidCursor."""
        try:
            payload = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[MAC_BYTES:]
        except ValueError:
            raise InvalidCursor from None
        # Sealed again and compared whole: base64 can write the same bytes in several ways.
        if not any(hmac.compare_digest(self._token(key, payload, scope), cursor) for key in self.keys):
            raise InvalidCursor
        return Position(*msgspec.msgpack.decode(payload))

    @staticmethod
    def _token(key: bytes, payload: bytes, scope: Sequence[object]) -> str:
        mac = hmac.digest(key, msgspec.msgpack.encode((scope, payload)), "sha256")[:MAC_BYTES]
        return urlsafe_b64encode(mac + payload).rstrip(b"=").decode()


def page_query(
    request: AnyRequest, *, limit: int, cursor: str | None, sort: str, q: str | None, count: bool
) -> PageQuery:
    """The page that a signed-in user asks for. Raises InvalidFields."""
    terms = terms_of(q) if q else ()
    cursors: Cursors = request.app.state.cursors
    after = cursors.open(cursor, *scope_of(request, sort, terms)) if cursor else None
    return PageQuery(limit, sort, terms, after, count)


def page_response(request: AnyRequest, query: PageQuery, page: Page[Read]) -> Response[list[Read]]:
    """The rows as a bare array; in the headers, where the next page is and how many there are in all."""
    headers = {}
    if page.last:
        cursors: Cursors = request.app.state.cursors
        cursor = cursors.seal(page.last, *scope_of(request, query.sort, query.terms))
        headers["Link"] = f'<{next_url(request, cursor)}>; rel="next"'
    if page.total is not None:
        headers["X-Total-Count"] = str(page.total)
    return Response(page.rows, headers=headers)


def scope_of(request: AnyRequest, sort: str, terms: Sequence[str]) -> tuple[object, ...]:
    """What a cursor is good for."""
    return request.scope["path"].rstrip("/"), request.user.id, sort, terms


def next_url(request: AnyRequest, cursor: str) -> str:
    """The request's own path and query with another cursor; without a host, whose name a proxy may have changed."""
    query = parse_qsl(request.scope["query_string"].decode(errors="replace"), keep_blank_values=True)
    parameters = [(name, value) for name, value in query if name != "cursor"]
    return f"{quote(request.scope['path'])}?{urlencode([*parameters, ('cursor', cursor)])}"


class Listing(Generic[Read]):
    """How one table is listed. Each kind of page has its own statement, built at its first use."""

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

    async def page(self, work: Work, query: PageQuery, **parameters: object) -> Page[Read]:
        """One page of the rows that `where` chooses by its parameters."""
        if not query.terms:
            return await self._page(work, query, parameters)
        if isinstance(work, Database):
            return await work.in_session(lambda session: self.page(session, query, **parameters))
        await plan_by_values(work)
        return await self._page(work, query, parameters | patterns(query.terms))

    async def _page(self, work: Work, query: PageQuery, parameters: dict[str, object]) -> Page[Read]:
        place: dict[str, object] = {"limit": query.limit + 1}  # The one more says whether there is a next page.
        if query.after:
            place |= query.after._asdict()
        statement = self.select(query.sort, len(query.terms), after=query.after is not None)
        found = await rows_of(work, statement, parameters | place)
        rows = [self.read(*row) for row in found[: query.limit]]
        last = self._position(rows[-1], query.sort) if len(found) > query.limit else None
        total = (await rows_of(work, self.count(len(query.terms)), parameters))[0][0] if query.count else None
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


def table_of(model: type[DeclarativeBase]) -> Table:
    """The table itself: a statement on its columns costs half of one on the model's attributes."""
    return cast("Table", model.__table__)


def columns_of(model: type[DeclarativeBase], read: type[Struct]) -> list[Column[Any]]:
    """The columns that the fields of a Struct name, in their order."""
    return [table_of(model).c[name] for name in read.__struct_fields__]
