"""The table of jobs."""

from datetime import datetime

from sqlalchemy import JSON, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, PrimaryKey, now

Payload = dict[str, str | int]
ALIVE = text("failed_at IS NULL")


class Job(Base):
    """Something to be done; its row is gone when it is done."""

    __tablename__ = "jobs"
    # What may be claimed, oldest first; dead letters would only be in the way.
    __table_args__ = (Index(None, "run_at", postgresql_where=ALIVE, sqlite_where=ALIVE), Base.__table_args__)

    id: Mapped[PrimaryKey]
    kind: Mapped[str] = mapped_column(String(64))
    # Ids and addresses, never a token or a password: whoever reads the table must not gain a right by it.
    payload: Mapped[Payload] = mapped_column(JSON)
    # When it is due; while it is at work, when its lease ends and it is due again.
    run_at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(default=0)
    key: Mapped[str | None] = mapped_column(String(200), unique=True)
    # Set when the last attempt has failed: a dead letter, which waits for an operator.
    failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=now)
