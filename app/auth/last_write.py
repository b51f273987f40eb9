"""When a session last wrote, for those who read from replicas: it then reads from the primary for a while."""

from datetime import datetime, timedelta

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy.exc import SQLAlchemyError

from app.auth.caller import SignedIn
from app.auth.repository import SessionRepository
from app.database.models import now

READING = {"GET", "HEAD", "OPTIONS"}
OLDEST = timedelta(seconds=1)
"""How much older than a write its note may be: a session that writes all the time is noted once a second."""

log = structlog.get_logger()


class LastWrite:
    """Notes when a session last wrote, for each request that may write; it stands behind the guard.

    The note is committed before the work begins, so that no process can die between the two, and again before the
    answer starts, when the work took so long that its commit may have come later than OLDEST after the note.
    """

    def __init__(self, app: ASGIApp, sessions: SessionRepository) -> None:
        self.app = app
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raise what the database does, before anything is written."""
        user: SignedIn | None = scope.get("user")
        if user is None or scope["type"] == ScopeType.WEBSOCKET or scope["method"] in READING:
            await self.app(scope, receive, send)
            return
        wrote_at = await self.note_write(user, user.wrote_at)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                try:
                    await self.note_write(user, wrote_at)
                except (SQLAlchemyError, OSError) as error:
                    # The work is done, and an error would have the client do it again.
                    log.warning("write not noted", cause=type(error).__name__)
            await send(message)

        await self.app(scope, receive, send_noted)

    async def note_write(self, user: SignedIn, wrote_at: datetime | None) -> datetime:
        """Note that the session writes now, unless that was done lately; return the time of the note."""
        moment = now()
        if wrote_at is not None and moment - wrote_at < OLDEST:
            return wrote_at
        await self.sessions.set_last_write(user.session_id, user.id, moment)
        return moment
