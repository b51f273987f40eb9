"""The time of a session's last write, after which the session reads from the primary, and not from a replica.

Here a session stands for every kind of bearer token, each of which has a time of its own.
"""

from datetime import datetime, timedelta

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy.exc import SQLAlchemyError

from app.auth.caller import SignedIn
from app.database.models import now
from app.http.requests import SAFE_METHODS
from app.security.bearers import BearerReader

MAX_AGE = timedelta(seconds=1)
"""The most by which the recorded time may be older than the write: a session that always writes is recorded once a
second."""

log = structlog.get_logger()


class LastWrite:
    """The middleware that records the time of a session's last write, for each request that may write.

    It stands behind the guard. The time is committed before the handler runs, so that no process can die between the
    two. It is recorded again before the answer starts, when the handler may have committed later than MAX_AGE after the
    recorded time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raise the database's errors before the handler runs, but not after it."""
        user: SignedIn | None = scope.get("user")
        if user is None or scope["type"] == ScopeType.WEBSOCKET or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        reader: BearerReader = scope["auth"]
        wrote_at = await record_write(reader, user, user.wrote_at)

        async def send_after_write(message: Message) -> None:
            if message["type"] == "http.response.start":
                try:
                    await record_write(reader, user, wrote_at)
                except (SQLAlchemyError, OSError) as error:
                    # The handler has committed, and after an error the client would send the request again.
                    log.warning("write not noted", cause=type(error).__name__)
            await send(message)

        await self.app(scope, receive, send_after_write)


async def record_write(reader: BearerReader, user: SignedIn, wrote_at: datetime | None) -> datetime:
    """Record that a session writes now, unless the recorded time is younger than MAX_AGE; return that time."""
    moment = now()
    if wrote_at is not None and moment - wrote_at < MAX_AGE:
        return wrote_at
    await reader.set_last_write(user, moment)
    return moment
