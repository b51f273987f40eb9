"""API tokens on the wire."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from app.http.schemas import RowId

MAX_SCOPES = 100
Time = Annotated[datetime, Meta(tz=True)]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="What it is for.",
        examples=["Nightly backup"],
    ),
]


class ApiTokenCreate(Struct, forbid_unknown_fields=True):
    """What a new API token is made of."""

    name: Name
    scopes: Annotated[
        list[Annotated[str, Meta(max_length=100)]],
        Meta(
            min_length=1,
            max_length=MAX_SCOPES,
            description="All that it may do; each once.",
            examples=[["items:read", "items:write"]],
            extra_json_schema={"uniqueItems": True},
        ),
    ]
    expires_at: (
        Annotated[
            datetime,
            Meta(tz=True, description="When it ends, if it ends by itself.", examples=["2099-01-31T12:00:00Z"]),
        ]
        | None
    ) = None


class ApiTokenRead(Struct):
    """An API token as its owner sees it, without the token itself."""

    id: RowId
    name: Annotated[str, Meta(examples=["Nightly backup"])]
    scopes: Annotated[list[str], Meta(examples=[["items:read", "items:write"]])]
    hint: Annotated[str, Meta(description="The last four characters of the token.", examples=["x7Kq"])]
    created_at: Annotated[datetime, Meta(examples=["2026-01-31T12:00:00.123456Z"])]
    expires_at: Annotated[
        Time | None, Meta(description="When it ends by itself; null: never.", examples=["2099-01-31T12:00:00Z"])
    ]
    last_used_at: Annotated[
        Time | None,
        Meta(description="Up to a minute too early; null: not yet.", examples=["2026-02-01T08:30:00.123456Z"]),
    ]


class ApiTokenCreated(ApiTokenRead):
    """A new API token; this answer alone has the token itself."""

    token: Annotated[
        str,
        Meta(
            description="Goes into `Authorization: Bearer` of every call; it is shown once.",
            examples=["bat_..."],
        ),
    ]
