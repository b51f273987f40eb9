"""The routes of items."""

from typing import Annotated, Literal

from litestar import Controller, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidation

from app.auth.guard import SignedInRequest
from app.database.sessions import Transaction
from app.errors import OwnerGone, PreconditionFailed
from app.http.conditional import TAGGED, UNCHANGED, IfMatch, IfNoneMatch, entity_tag, expected_versions, is_unchanged
from app.http.idempotency import OnlyOnce, RequestInProgress
from app.http.openapi import raises
from app.http.paging import PAGE_HEADERS, Count, Cursor, Limit, Search, page_query, page_response
from app.http.requests import InTransaction
from app.items.repository import ItemNotFound, NotYourItem
from app.items.schemas import ItemCreate, ItemRead, ItemUpdate, RowId
from app.items.service import ItemService

Items = NamedDependency[SkipValidation[ItemService]]
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

    @post("/", summary="Create an item", responses=raises(RequestInProgress, OwnerGone), response_headers=TAGGED)
    async def create_item(
        self, request: SignedInRequest, items: Items, once: OnlyOnce, data: JSONBody[ItemCreate]
    ) -> Response[ItemRead]:
        """A new item of the caller's."""

        async def create(transaction: Transaction | None) -> Response[ItemRead]:
            item, version = await items.create(request.user.id, data, transaction)
            return Response(item, headers={"Location": f"/items/{item.id}", "ETag": entity_tag(version)})

        return await once(data, create)

    @get("/", summary="List your items", response_headers=PAGE_HEADERS)
    async def list_items(
        self,
        request: SignedInRequest,
        readable_items: Items,
        *,
        limit: Limit = 50,
        cursor: Cursor = None,
        sort: Sort = "-id",
        q: Search = None,
        count: Count = False,
    ) -> Response[list[ItemRead]]:
        """The caller's items, newest first, in pages: each names the next one in its `Link` header."""
        query = page_query(request, limit=limit, cursor=cursor, sort=sort, q=q, count=count)
        return page_response(request, query, await readable_items.page(request.user.id, query))

    @get(
        "/{item_id:int}",
        summary="Read an item",
        responses=raises(NotYourItem, ItemNotFound) | UNCHANGED,
        response_headers=TAGGED,
    )
    async def read_item(
        self,
        request: SignedInRequest,
        readable_items: Items,
        item_id: FromPath[RowId],
        if_none_match: IfNoneMatch = None,
    ) -> Response[ItemRead | None]:
        """One item of the caller's."""
        item, version = await readable_items.read(request.user.id, item_id)
        headers = {"ETag": entity_tag(version)}
        if is_unchanged(if_none_match, version):
            return Response(None, status_code=304, headers=headers)
        return Response(item, headers=headers)

    @patch(
        "/{item_id:int}",
        summary="Change an item",
        responses=raises(NotYourItem, ItemNotFound, PreconditionFailed),
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
        versions = expected_versions(if_match)
        item, version = await items.update(transaction, request.user.id, item_id, data, versions)
        return Response(item, headers={"ETag": entity_tag(version)})

    @delete("/{item_id:int}", summary="Delete an item", responses=raises(NotYourItem, ItemNotFound, PreconditionFailed))
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
