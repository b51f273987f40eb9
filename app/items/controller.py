"""The routes of items."""

from typing import Annotated, Literal

from litestar import Controller, Response, delete, get, patch, post
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody, QueryParameter

from app.auth.guard import SignedInRequest
from app.http.conditional import TAGGED, UNCHANGED, IfMatch, IfNoneMatch, expected_versions, tagged, tagged_if_changed
from app.http.idempotency import OnlyOnce
from app.http.openapi import raises
from app.http.paging import PAGE_HEADERS, Count, Cursor, Limit, Search, page_query, page_response
from app.http.requests import InTransaction, Provided
from app.http.schemas import RowId
from app.items.repository import ItemNotFound, NotYourItem
from app.items.schemas import ItemCreate, ItemRead, ItemUpdate
from app.items.service import ItemService

Items = Provided[ItemService]
Sort = Annotated[
    Literal["id", "-id", "updated_at", "-updated_at", "title", "-title"],
    QueryParameter(
        description="The order, `-` for descending: titles by code point, what is equal by id.",
        examples=[Example(value="title")],
    ),
]


class ItemController(Controller):
    """The caller's own items."""

    path = "/items"
    tags = ["Items"]

    @post("/", summary="Create an item", response_headers=TAGGED)
    async def create_item(
        self, request: SignedInRequest, items: Items, once: OnlyOnce, data: JSONBody[ItemCreate]
    ) -> Response[ItemRead]:
        """A new item of the caller's."""
        return await once(data, lambda transaction: items.create(request.user.id, data, transaction))

    @get("/", summary="List your items", response_headers=PAGE_HEADERS)
    async def list_items(
        self,
        request: SignedInRequest,
        items: Items,
        *,
        limit: Limit = 50,
        cursor: Cursor = None,
        sort: Sort = "-id",
        q: Search = None,
        count: Count = False,
    ) -> Response[list[ItemRead]]:
        """The caller's items, newest first, in pages: each names the next one in its `Link` header."""
        query = page_query(request, limit=limit, cursor=cursor, sort=sort, q=q, count=count)
        return page_response(request, query, await items.page(request.user.id, query))

    @get(
        "/{item_id:int}",
        summary="Read an item",
        responses=raises(NotYourItem, ItemNotFound) | UNCHANGED,
        response_headers=TAGGED,
    )
    async def read_item(
        self,
        request: SignedInRequest,
        items: Items,
        item_id: FromPath[RowId],
        if_none_match: IfNoneMatch = None,
    ) -> Response[ItemRead | None]:
        """One item of the caller's."""
        return tagged_if_changed(await items.read(request.user.id, item_id), if_none_match)

    @patch(
        "/{item_id:int}",
        summary="Change an item",
        responses=raises(NotYourItem, ItemNotFound),
        response_headers=TAGGED,
    )
    async def update_item(
        self,
        request: SignedInRequest,
        items: Items,
        transaction: InTransaction,
        item_id: FromPath[RowId],
        data: JSONBody[ItemUpdate],
        if_match: IfMatch = None,
    ) -> Response[ItemRead]:
        """Change what is given of an item. Of two who send the same `If-Match`, one wins; without it, the last one."""
        expected = expected_versions(if_match)
        return tagged(await items.update(transaction, request.user.id, item_id, data, expected))

    @delete("/{item_id:int}", summary="Delete an item", responses=raises(NotYourItem, ItemNotFound))
    async def delete_item(
        self,
        request: SignedInRequest,
        items: Items,
        transaction: InTransaction,
        item_id: FromPath[RowId],
        if_match: IfMatch = None,
    ) -> None:
        """Delete an item."""
        await items.delete(transaction, request.user.id, item_id, expected_versions(if_match))
