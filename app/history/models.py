"""The table of security events."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, PrimaryKey

ON_ANOTHER = text("coalesce(user_id, 0) <> actor_id")


class StoredEvent(Base):
    """A security event. It outlives the account and the session that it names, so it refers to neither's table."""

    __tablename__ = "events"
    __table_args__ = (
        # One index for each filter of a list that is ordered by time, and what is equal by id. The first one also
        # serves the daily purge.
        Index(None, "created_at", "id"),
        Index(None, "user_id", "created_at", "id"),
        Index(None, "type", "created_at", "id"),
        # What somebody did to other accounts, from which a deleted account's address has to be removed.
        Index(None, "actor_id", postgresql_where=ON_ANOTHER, sqlite_where=ON_ANOTHER),
        Base.__table_args__,
    )

    id: Mapped[PrimaryKey]
    type: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[int | None]
    actor_id: Mapped[int | None]
    client_id: Mapped[str | None] = mapped_column(String(255))
    session_id: Mapped[int | None]
    address: Mapped[str | None] = mapped_column(String(64))
    device: Mapped[str | None] = mapped_column(String(256))
    request_id: Mapped[str | None] = mapped_column(String(128))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]
