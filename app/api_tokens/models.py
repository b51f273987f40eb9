"""The table of API tokens."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, PrimaryKey, now


class ApiToken(Base):
    """An API token, of which the row has a digest: whoever reads the table can't use it."""

    __tablename__ = "api_tokens"

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    # Its scopes, with spaces between them.
    scope: Mapped[str] = mapped_column(Text)
    # Its last characters, by which its owner knows it.
    hint: Mapped[str] = mapped_column(String(4))
    created_at: Mapped[datetime] = mapped_column(default=now)
    # NULL where it doesn't end by itself.
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    # Recorded once a minute.
    last_used_at: Mapped[datetime | None]
    # Kept only with replicas, and up to a second too old, as that of sessions.
    wrote_at: Mapped[datetime | None]
