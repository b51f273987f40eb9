"""The tables of jobs, and of the times at which mailboxes were mailed."""

from datetime import datetime

from sqlalchemy import JSON, Index, LargeBinary, String, text
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
    # Keeps out further jobs with the same key, until the job begins.
    key: Mapped[str | None] = mapped_column(String(200), unique=True)
    # Set when the last attempt has failed. The job is then a dead letter, which waits for an operator.
    failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=now)


class MailCount(Base):
    """The times, in seconds since 1970, of the mails that one mailbox got within an hour, or will get."""

    __tablename__ = "mail_counts"
    __table_args__ = {}

    # A keyed digest: nobody who reads the table learns an address.
    name: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    times: Mapped[list[float]] = mapped_column(JSON)
    expires_at: Mapped[datetime] = mapped_column(index=True)
