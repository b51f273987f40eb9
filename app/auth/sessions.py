"""The rules of the list of sessions, in which a user sees and ends their own."""

from datetime import datetime, timedelta

from msgspec import Struct

from app.auth.caller import Caller
from app.auth.repository import LiveSession, SessionRepository
from app.auth.schemas import SessionRead
from app.database.sessions import Transaction
from app.errors import NotFound
from app.security.events import Events


class Lifetimes(Struct, frozen=True):
    """The lifetimes of tokens and sessions."""

    access: timedelta
    """Of an access token."""
    idle: timedelta
    """Of a session that isn't refreshed."""
    absolute: timedelta
    """Of any session."""

    def end(self, created_at: datetime, refreshed_at: datetime) -> datetime:
        """Return when a session ends by itself: unused for too long, or too old."""
        return min(refreshed_at + self.idle, created_at + self.absolute)


class SessionNotFound(NotFound):
    """The caller has no such session; the client isn't told whether another user has."""

    detail = "Session not found"


class SessionService:
    """The service that lists and ends a user's sessions."""

    def __init__(self, sessions: SessionRepository, lifetimes: Lifetimes, events: Events) -> None:
        self.sessions = sessions
        self.events = events
        self.lifetimes = lifetimes

    async def all(self, user_id: int, current: int) -> list[SessionRead]:
        """Return the sessions that have not ended, the latest used first.

        Their times are no finer than a minute, and none moves when a session is refreshed: whoever has stolen a session
        must not see when its owner refreshes.
        """
        return [self.read(session, current) for session in await self.sessions.of_user(user_id)]

    def read(self, session: LiveSession, current: int) -> SessionRead:
        """Return a session as its owner sees it."""
        return SessionRead(
            id=session.id,
            device=session.device,
            address=session.address,
            amr=session.amr.split(),
            auth_time=to_minute(session.authenticated_at),
            created_at=to_minute(session.created_at),
            last_used_at=to_minute(session.last_used_at),
            expires_at=to_minute(self.lifetimes.end(session.created_at, session.last_used_at)),
            current=session.id == current,
        )

    async def end(self, transaction: Transaction, caller: Caller, session_id: int) -> None:
        """End one session of the caller's. Raise SessionNotFound."""
        if not await self.sessions.end_own(transaction, session_id, caller.id):
            raise SessionNotFound
        await caller.record(self.events, transaction, "session_ended", ended_id=session_id)

    async def end_others(self, transaction: Transaction, caller: Caller) -> None:
        """End all sessions of the caller's own but the one of the request."""
        count = await self.sessions.end_other_own(transaction, caller.id, but=caller.session_id)
        await caller.record(self.events, transaction, "other_sessions_ended", count=count)


def to_minute(moment: datetime) -> datetime:
    """Return the minute that a moment is in."""
    return moment.replace(second=0, microsecond=0)
