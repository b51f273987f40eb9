"""The routes of items."""

from typing import Annotated, Literal

from litestar import Controller, Response, delete, get, patch, post
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody, QueryParameter

from app.auth.guard import SignedInRequest
from app.conditional import TAGGED, UNCHANGED, IfMatch, IfNoneMatch, entity_tag, expected_versions, is_unchanged
from app.db import Work
from app.errors import OwnerGone, PreconditionFailed
from app.idempotency import RequestInProgress, idempotent
from app.items.schemas import Id, ItemCreate, ItemRead, ItemUpdate
from app.items.service import ItemNotFound, ItemService, NotYourItem
from app.openapi import raises
from app.paging import PAGE_HEADERS, Count, Cursor, Limit, Search, page_query, page_response
from app.requests import DatabaseItself, Session

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
    @idempotent
    async def create_item(self, request: SignedInRequest, work: Work, data: JSONBody[ItemCreate]) -> Response[ItemRead]:
        """A new item of the caller's."""
        item, version = await ItemService(work).create(request.user.id, data)
        return Response(item, headers={"Location": f"/items/{item.id}", "ETag": entity_tag(version)})

    @get("/", summary="List your items", response_headers=PAGE_HEADERS)
    async def list_items(
        self,
        request: SignedInRequest,
        reader: DatabaseItself,
        *,
        limit: Limit = 50,
        cursor: Cursor = None,
        sort: Sort = "-id",
        q: Search = None,
        count: Count = False,
    ) -> Response[list[ItemRead]]:
        """The caller's items, newest first, in pages: each names the next one in its `Link` header."""
        query = page_query(request, limit=limit, cursor=cursor, sort=sort, q=q, count=count)
        return page_response(request, query, await ItemService(reader).page(request.user.id, query))

    @get(
        "/{item_id:int}",
        summary="Read an item",
        responses=raises(NotYourItem, ItemNotFound) | UNCHANGED,
        response_headers=TAGGED,
    )
    async def read_item(
        self,
        request: SignedInRequest,
        reader: DatabaseItself,
        item_id: FromPath[Id],
        if_none_match: IfNoneMatch = None,
    ) -> Response[ItemRead | None]:
        """One item of the caller's."""
        item, version = await ItemService(reader).read(request.user.id, item_id)
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
        transaction: Session,
        item_id: FromPath[Id],
        data: JSONBody[ItemUpdate],
        if_match: IfMatch = None,
    ) -> Response[ItemRead]:
        """Change what is given of an item. Of two who send the same `If-Match`, one wins; without it, the last one."""
        versions = expected_versions(if_match)
        item, version = await ItemService(transaction).update(request.user.id, item_id, data, versions)
        return Response(item, headers={"ETag": entity_tag(version)})

    @delete("/{item_id:int}", summary="Delete an item", responses=raises(NotYourItem, ItemNotFound, PreconditionFailed))
    async def delete_item(
        self, request: SignedInRequest, transaction: Session, item_id: FromPath[Id], if_match: IfMatch = None
    ) -> None:
        """Delete an item."""
        await ItemService(transaction).delete(request.user.id, item_id, expected_versions(if_match))
