"""When a session last wrote, for those who read from replicas: it then reads from the primary for a while."""

from datetime import datetime, timedelta

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy import bindparam, update
from sqlalchemy.exc import SQLAlchemyError

from app.auth.guard import SignedIn
from app.auth.models import LoginSession
from app.db import Database, now

READING = {"GET", "HEAD", "OPTIONS"}
OLDEST = timedelta(seconds=1)
"""How much older than a write its mark may be: a session that writes all the time is marked once a second."""

# Never an earlier time, which a slower request may bring.
WROTE = (
    update(LoginSession)
    .where(
        LoginSession.id == bindparam("session_id"),
        LoginSession.user_id == bindparam("owner"),
        LoginSession.wrote_at.is_(None) | (LoginSession.wrote_at < bindparam("now")),
    )
    .values(wrote_at=bindparam("now"))
    .returning(LoginSession.id)
)
log = structlog.get_logger()


class Marks:
    """Marks the session of each request that may write; it stands behind the guard.

    The mark is committed before the work begins, so that no process can die between the two, and again before the
    answer starts, when the work took so long that its commit may have come later than OLDEST after the mark.
    """

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self.app = app
        self.database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the database does, before anything is written."""
        user: SignedIn | None = scope.get("user")
        if user is None or scope["type"] == ScopeType.WEBSOCKET or scope["method"] in READING:
            await self.app(scope, receive, send)
            return
        marked_at = await self.mark(user, user.wrote_at)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                try:
                    await self.mark(user, marked_at)
                except (SQLAlchemyError, OSError) as error:
                    # The work is done, and an error would have the client do it again.
                    log.warning("write not marked", cause=type(error).__name__)
            await send(message)

        await self.app(scope, receive, send_marked)

    async def mark(self, user: SignedIn, marked_at: datetime | None) -> datetime:
        """Mark the session as writing now, unless that was done lately; gives the time of the mark."""
        moment = now()
        if marked_at is not None and moment - marked_at < OLDEST:
            return marked_at
        session = {"session_id": user.session_id, "owner": user.id}
        await self.database.fetch_prepared(WROTE, {**session, "now": moment})
        return moment
