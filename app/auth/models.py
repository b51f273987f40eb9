"""The table of sessions: one row for each time that somebody signed in."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, BigInt, now


class LoginSession(Base):
    """What the `sid` of a token names; without its row a token is worth nothing.

    No token is stored: a refresh token carries the generation that it belongs to, and refreshing moves the row on to
    the next one.
    """

    __tablename__ = "sessions"
    # Ids are random, so that no token of an ended session can ever name a later one.
    __table_args__ = {}

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    device: Mapped[str] = mapped_column(String(256))
    address: Mapped[str] = mapped_column(String(64))
    generation: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    refreshed_at: Mapped[datetime] = mapped_column(default=now)
    # With replicas alone, give or take a second; a new session counts as one that has just written.
    wrote_at: Mapped[datetime | None] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
