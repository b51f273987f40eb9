"""The page of what happened to an account."""

import re
from typing import Any

from litestar import Response, get

from app.history.controller import History
from app.history.repository import Selection
from app.http.feature import Parts
from app.http.paging import next_cursor, page_query
from app.pages.visit import FOR_MEMBERS, FeaturePages, Row, Visiting

EVENTS_OF_A_PAGE = 25
DETAILS = re.compile("[:;].*")
"""The part of a sentence on a type of events that says what its details mean, to programs."""


@get("/account/history", opt=FOR_MEMBERS)
async def history_page(visit: Visiting, history: History) -> Response[Any]:
    """Show the security events of the account, newest first, in pages."""
    request, cursor = visit.request, visit.request.query_params.get("cursor")
    query = page_query(request, limit=EVENTS_OF_A_PAGE, cursor=cursor, sort="-created_at")
    page = await history.page(Selection(visit.member.id), query)
    return visit.page(
        "history.html",
        events=page.rows,
        sentences={name: DETAILS.sub("", about) for name, about in visit.site.event_types.items()},
        older=next_cursor(request, query, page),
        is_first=cursor is None,
    )


def pages(_parts: Parts) -> FeaturePages:
    """Return the page, and its row."""
    return FeaturePages([history_page], [Row("history", "History", "See what happened, and from where")])
