"""The routes of history."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Controller, Response, get
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from app.auth.guard import SignedInRequest
from app.history.repository import Selection
from app.history.schemas import EventRead
from app.history.service import HistoryService
from app.http.access import SUPERUSER, scoped
from app.http.lines import LINES, VARY, stream_lines, wants_lines
from app.http.paging import PAGE_HEADERS, Cursor, Limit, page_query, page_response
from app.http.requests import MAX_ID, Provided

History = Provided[HistoryService]
Type = Annotated[str | None, QueryParameter(name="type", description="Only events of one type.")]
Since = Annotated[
    datetime | None,
    QueryParameter(
        description="Only events at this moment or later, with its zone (RFC 3339).",
        examples=[Example(value="2026-01-31T00:00:00Z")],
    ),
]
Until = Annotated[
    datetime | None,
    QueryParameter(
        description="Only events before this moment, with its zone (RFC 3339).",
        examples=[Example(value="2026-02-01T00:00:00Z")],
    ),
]
UserId = Annotated[
    int | None,
    QueryParameter(
        ge=1,
        le=MAX_ID,
        description="Only events about one account, also a deleted one.",
        examples=[Example(value=1)],
    ),
]


class HistoryController(Controller):
    """The security events: of the caller's account, and for superusers all."""

    tags = ["History"]

    @get(
        "/users/me/events",
        opt=scoped("account") | LINES,
        summary="List what happened to your account",
        response_headers=PAGE_HEADERS[:1],
    )
    async def list_own_events(
        self,
        request: SignedInRequest,
        history: History,
        *,
        limit: Limit = 50,
        cursor: Cursor = None,
        type_: Type = None,
        since: Since = None,
        until: Until = None,
    ) -> Response[list[EventRead]]:
        """The security events about your account, newest first, in pages.

        With `Accept: application/x-ndjson` all of them come at once, one JSON object a line; `limit` and `cursor` then
        mean nothing.
        """
        return await answer(request, history, Selection(request.user.id, type_, since, until), limit, cursor)

    @get(
        "/events",
        opt=SUPERUSER | scoped("users") | LINES,
        summary="List what happened to all accounts",
        response_headers=PAGE_HEADERS[:1],
    )
    async def list_events(
        self,
        request: SignedInRequest,
        history: History,
        *,
        limit: Limit = 50,
        cursor: Cursor = None,
        type_: Type = None,
        since: Since = None,
        until: Until = None,
        user_id: UserId = None,
    ) -> Response[list[EventRead]]:
        """For superusers: the security events of all accounts, newest first, in pages.

        With `Accept: application/x-ndjson` all of them come at once, one JSON object a line; `limit` and `cursor` then
        mean nothing.
        """
        return await answer(request, history, Selection(user_id, type_, since, until), limit, cursor)


async def answer(
    request: SignedInRequest, history: HistoryService, selection: Selection, limit: int, cursor: str | None
) -> Response[Any]:
    """Return a page of a selection, or all of it as lines where the client accepts these."""
    if wants_lines(request):
        return await stream_lines(request, history.lines(selection, request.user.id))
    filters = tuple(f"{name}={value}" for name, value in selection.given.items())
    query = page_query(request, limit=limit, cursor=cursor, sort="-created_at", filters=filters)
    response = page_response(request, query, await history.page(selection, query))
    response.headers |= VARY
    return response
