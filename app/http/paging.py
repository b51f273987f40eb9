"""Lists over HTTP: the query that asks for a page, sealed cursors, and the headers that lead to the next page."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from litestar import Request, Response
from litestar.datastructures import ResponseHeader
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from app.database.pages import Page, PageQuery, Position, Read
from app.database.search import terms_of
from app.errors import InvalidField, InvalidFields

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

AnyRequest = Request[Any, Any, Any]


class InvalidCursor(InvalidFields):
    """The cursor is forged, or was given out for another list, user, order or search."""

    def __init__(self) -> None:
        super().__init__(InvalidField("/cursor", "is not one that this list gave out"))


class Cursors:
    """Seals positions, so that a client can't change them into another place, list, user, order or search."""

    def __init__(self, *secrets: str) -> None:
        """The first secret seals; what an earlier one has sealed opens too. Empty ones don't count."""
        self.keys = [hmac.digest(secret.encode(), b"cursors", "sha256") for secret in secrets if secret]

    def seal(self, position: Position, *scope: object) -> str:
        """Return the cursor of a position within what `scope` names."""
        return self._token(self.keys[0], msgspec.msgpack.encode(position), scope)

    def open(self, cursor: str, *scope: object) -> Position:
        """Return the position that was sealed for the same scope. Raise InvalidCursor."""
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
    """Return the page that a signed-in user asks for. Raise InvalidFields."""
    terms = terms_of(q) if q else ()
    cursors: Cursors = request.app.state.cursors
    after = cursors.open(cursor, *scope_of(request, sort, terms)) if cursor else None
    return PageQuery(limit, sort, terms, after, count)


def page_response(request: AnyRequest, query: PageQuery, page: Page[Read]) -> Response[list[Read]]:
    """Return the rows as a bare array; in the headers, where the next page is and how many there are in all."""
    headers = {}
    if page.last:
        cursors: Cursors = request.app.state.cursors
        cursor = cursors.seal(page.last, *scope_of(request, query.sort, query.terms))
        headers["Link"] = f'<{next_url(request, cursor)}>; rel="next"'
    if page.total is not None:
        headers["X-Total-Count"] = str(page.total)
    return Response(page.rows, headers=headers)


def scope_of(request: AnyRequest, sort: str, terms: Sequence[str]) -> tuple[object, ...]:
    """Return what a cursor is good for: this path, user, order and search."""
    return request.scope["path"].rstrip("/"), request.user.id, sort, terms


def next_url(request: AnyRequest, cursor: str) -> str:
    """Return the request's own path and query with another cursor; without a host, which a proxy may have changed."""
    query = parse_qsl(request.scope["query_string"].decode(errors="replace"), keep_blank_values=True)
    parameters = [(name, value) for name, value in query if name != "cursor"]
    return f"{quote(request.scope['path'])}?{urlencode([*parameters, ('cursor', cursor)])}"
