"""The routes of items."""

from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from app.auth.guard import SignedInRequest
from app.conditional import entity_tag, is_unchanged
from app.items.schemas import Id, ItemCreate, ItemRead
from app.items.service import ItemService
from app.requests import Session

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="The most items that the answer holds.")]


class ItemController(Controller):
    """The caller's own items."""

    path = "/items"
    tags = ["Items"]

    @post("/", summary="Create an item")
    async def create_item(
        self, request: SignedInRequest, transaction: Session, data: JSONBody[ItemCreate]
    ) -> Response[ItemRead]:
        """A new item of the caller's."""
        item, version = await ItemService(transaction).create(request.user.id, data)
        return Response(item, headers={"Location": f"/items/{item.id}", "ETag": entity_tag(version)})

    @get("/", summary="List your items")
    async def list_items(self, request: SignedInRequest, session: Session, limit: Limit = 50) -> list[ItemRead]:
        """The caller's items, newest first."""
        return await ItemService(session).page(request.user.id, limit)

    @get("/{item_id:int}", summary="Read an item")
    async def read_item(
        self, request: SignedInRequest, session: Session, item_id: FromPath[Id]
    ) -> Response[ItemRead | None]:
        """One item of the caller's; 304 when the client's copy, by its If-None-Match, is current."""
        item, version = await ItemService(session).read(request.user.id, item_id)
        headers = {"ETag": entity_tag(version)}
        if is_unchanged(request, headers["ETag"]):
            return Response(None, status_code=304, headers=headers)
        return Response(item, headers=headers)
