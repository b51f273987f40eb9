"""Events on the wire."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from app.http.schemas import RowId


class EventRead(Struct):
    """One security event: what happened to an account, by whom and from where."""

    id: RowId
    type: Annotated[str, Meta(description="One of those that the list can be filtered by.", examples=["login"])]
    user_id: Annotated[int | None, Meta(description="Whose account it is.", examples=[1])]
    actor_id: Annotated[int | None, Meta(description="Who did it; null where nobody knows.", examples=[1])]
    client_id: Annotated[str | None, Meta(description="The OAuth client, where there was one.", examples=[None])]
    session_id: Annotated[int | None, Meta(examples=[4503599627370496])]
    address: Annotated[str | None, Meta(description="The client's IP address.", examples=["203.0.113.7"])]
    device: Annotated[str | None, Meta(description="The client's User-Agent.", examples=["curl/8.5.0"])]
    request_id: Annotated[str | None, Meta(description="The `X-Request-ID` of the request.", examples=["3f0c9a"])]
    details: Annotated[
        dict[str, Any],
        Meta(description="Ids, numbers and words that say more, by the type.", examples=[{"amr": "pwd"}]),
    ]
    created_at: Annotated[datetime, Meta(examples=["2026-01-31T12:00:00.123456Z"])]
