"""The table of items."""

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Owned, code_point_string


class Item(Owned):
    """Something that one user owns."""

    __tablename__ = "items"
    __table_args__ = (
        # One index for each order of an owner's list; that by id comes with Owned.
        Index(None, "owner_id", "updated_at", "id"),
        Index(None, "owner_id", "title", "id"),
        # The trigrams of the searched text. SQLite has no such index, and reads each of an owner's rows.
        Index(
            None,
            "search_text",
            postgresql_using="gin",
            postgresql_ops={"search_text": "gin_trgm_ops"},
            info={"only": "postgresql"},
        ),
        Owned.__table_args__,
    )

    title: Mapped[str] = mapped_column(code_point_string(200))
    description: Mapped[str | None] = mapped_column(String(10_000))
    search_text: Mapped[str] = mapped_column(Text)
