"""The table of jobs."""

from datetime import datetime

from sqlalchemy import JSON, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.models import Base, PrimaryKey, now

Payload = dict[str, str | int]
ALIVE = text("failed_at IS NULL")


class Job(Base):
    """A job; its row is deleted when the job is done."""

    __tablename__ = "jobs"
    # The jobs that may be claimed, oldest first, without the dead letters.
    __table_args__ = (Index(None, "run_at", postgresql_where=ALIVE, sqlite_where=ALIVE), Base.__table_args__)

    id: Mapped[PrimaryKey]
    kind: Mapped[str] = mapped_column(String(64))
    # Ids and addresses, but no token and no password: reading the table must give nobody a right.
    payload: Mapped[Payload] = mapped_column(JSON)
    # The time at which the job is due; while an attempt runs, the end of its lease.
    run_at: Mapped[datetime]
    attempt: Mapped[int] = mapped_column(default=0)
    key: Mapped[str | None] = mapped_column(String(200), unique=True)
    # Set when the last attempt has failed. The job is then a dead letter, which waits for an operator.
    failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=now)
