"""Items on the wire."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from app.http.schemas import RowId

Title = Annotated[
    str,
    Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$", description="What it is called.", examples=["Umbrella"]),
]
Description = Annotated[
    str,
    Meta(max_length=10_000, pattern=r"^[^\x00]*$", description="Anything else about it.", examples=["Black, folding"]),
]


class ItemCreate(Struct, forbid_unknown_fields=True):
    """What a new item is made of."""

    title: Title
    description: Description | None = None


class ItemUpdate(Struct, forbid_unknown_fields=True):
    """What changes about an item: absent fields keep their value, and `null` clears the description."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET


class ItemRead(Struct):
    """An item as its owner sees it."""

    id: RowId
    title: Annotated[str, Meta(examples=["Umbrella"])]
    description: Annotated[str | None, Meta(examples=["Black, folding"])]
    owner_id: RowId
    created_at: Annotated[datetime, Meta(examples=["2026-01-31T12:00:00.123456Z"])]
    updated_at: Annotated[datetime, Meta(examples=["2026-01-31T12:00:00.123456Z"])]
