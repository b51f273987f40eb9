"""The rules of the list of sessions, in which a user sees and ends their own."""

from msgspec import structs

from app.auth.repository import SessionRepository
from app.auth.schemas import SessionRead
from app.database.sessions import Transaction
from app.errors import NotFound


class SessionNotFound(NotFound):
    """The caller has no such session; the client isn't told whether another user has."""

    detail = "Session not found"


class SessionService:
    """The service that lists and ends a user's sessions."""

    def __init__(self, sessions: SessionRepository) -> None:
        self.sessions = sessions

    async def all(self, user_id: int, current: int) -> list[SessionRead]:
        """Return the sessions that have not ended, the latest used first."""
        sessions = await self.sessions.of_user(user_id)
        return [SessionRead(**structs.asdict(session), current=session.id == current) for session in sessions]

    async def end(self, transaction: Transaction, user_id: int, session_id: int) -> None:
        """End one session. Raise SessionNotFound."""
        if not await self.sessions.end(transaction, session_id, user_id):
            raise SessionNotFound

    async def end_others(self, transaction: Transaction, user_id: int, current: int) -> int:
        """End all sessions but the current one, and return their number."""
        return await self.sessions.end_all(transaction, user_id, but=current)
