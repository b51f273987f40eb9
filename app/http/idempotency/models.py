"""The table of answers to requests with an idempotency key."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base


class StoredAnswer(Base):
    """The answer to a request with a key; it is empty until the request's transaction ends."""

    __tablename__ = "idempotency_keys"
    __table_args__ = {}

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    # SHA-256 of method, path and key, and below of the body: they have one size, whatever a client sends.
    request: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary(32))
    answer: Mapped[bytes] = mapped_column(default=b"")
    created_at: Mapped[datetime] = mapped_column(index=True)
