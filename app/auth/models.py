"""The table of sessions: one row for each time that somebody signed in."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, BigInt, now


class LoginSession(Base):
    """What the `sid` of a token names; without its row a token is worth nothing."""

    __tablename__ = "sessions"
    # Ids are random, so that no token of an ended session can ever name a later one.
    __table_args__ = {}

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
