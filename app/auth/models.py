"""The table of sessions, which has one row for each login."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

import app.oauth.models  # noqa: F401 - the table that `grant_id` refers to, also where that feature is left out
from app.database.models import Base, BigInt, now

HAS_COOKIE = text("cookie_digest IS NOT NULL")


class LoginSession(Base):
    """A session, which the `sid` claim of its tokens names; without the row they no longer work.

    No token is stored. A refresh token has the generation of the session at which it was issued, and each refresh
    increments the row's generation. A browser's session has a cookie instead, of which the digest is stored.
    """

    __tablename__ = "sessions"
    # Ids are random, so that no token of an ended session can ever name a later one.
    __table_args__ = (
        Index(
            None,
            "cookie_digest",
            unique=True,
            postgresql_where=HAS_COOKIE,
            sqlite_where=HAS_COOKIE,
        ),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    device: Mapped[str] = mapped_column(String(256))
    address: Mapped[str] = mapped_column(String(64))
    # The scopes to which it was narrowed, with spaces between them; NULL where it may do everything.
    scope: Mapped[str | None] = mapped_column(Text)
    # The application that it belongs to, and what was granted to that; NULL for a session of the person's own.
    client_id: Mapped[str | None] = mapped_column(String(64))
    grant_id: Mapped[int | None] = mapped_column(ForeignKey("oauth_grants.id", ondelete="CASCADE"), index=True)
    generation: Mapped[int] = mapped_column(default=0)
    # How often the refresh that led to this generation was asked for again.
    repeats: Mapped[int] = mapped_column(default=0, server_default="0")
    # The methods by which its user has signed in (RFC 8176), with spaces between them; `mfa` among them is its level.
    amr: Mapped[str] = mapped_column(Text, default="pwd", server_default="pwd")
    # When its user last proved who they are, by a sign-in or again. NULL where the release before has opened it.
    authenticated_at: Mapped[datetime | None] = mapped_column(default=now)
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    refreshed_at: Mapped[datetime] = mapped_column(default=now)
    # Kept only with replicas, and up to a second too old. A new session counts as one that has just written.
    wrote_at: Mapped[datetime | None] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    cookie_digest: Mapped[bytes | None] = mapped_column(LargeBinary(32))


AUTHENTICATED_AT = func.coalesce(LoginSession.authenticated_at, LoginSession.created_at)
"""When a session's user last proved who they are, in statements."""
