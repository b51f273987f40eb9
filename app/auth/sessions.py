"""The sessions of one user, as they see and end them."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.models import LoginSession
from app.auth.schemas import SessionRead
from app.auth.service import end_sessions
from app.db import now
from app.errors import NotFound

COLUMNS = (
    LoginSession.id,
    LoginSession.device,
    LoginSession.address,
    LoginSession.created_at,
    LoginSession.last_used_at,
    LoginSession.expires_at,
)


class SessionNotFound(NotFound):
    """The caller has no such session; whether somebody else has, nobody is told."""

    detail = "Session not found"


class SessionService:
    """Lists and ends sessions."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def all(self, user_id: int, current: int) -> list[SessionRead]:
        """The sessions that have not ended, the latest used first."""
        live = (LoginSession.user_id == user_id) & (LoginSession.expires_at > now())
        rows = await self.session.execute(select(*COLUMNS).where(live).order_by(LoginSession.last_used_at.desc()))
        return [SessionRead(*row, current=row.id == current) for row in rows]

    async def end(self, user_id: int, session_id: int) -> None:
        """End one session. Raises SessionNotFound."""
        which = (LoginSession.id == session_id) & (LoginSession.user_id == user_id)
        if not await end_sessions(self.session, which):
            raise SessionNotFound

    async def end_others(self, user_id: int, current: int) -> int:
        """End all sessions but the current one; how many there were."""
        return await end_sessions(self.session, (LoginSession.user_id == user_id) & (LoginSession.id != current))
