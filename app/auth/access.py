"""Ends every access to an account: sessions, other tokens, and what applications were granted."""

from collections.abc import Mapping

from app.auth.repository import SessionRepository
from app.database.sessions import Transaction
from app.security.applications import Applications
from app.security.bearers import BearerKind


class Access:
    """The access to accounts: by sessions, and by the tokens of other features."""

    def __init__(
        self, sessions: SessionRepository, kinds: Mapping[str, BearerKind], applications: Applications
    ) -> None:
        self.sessions = sessions
        self.kinds = kinds
        self.applications = applications

    async def end(self, transaction: Transaction, user_id: int) -> None:
        """End every session and every token of a user, and what applications may do."""
        # Grants before sessions, as where a single grant ends: in the other order, the two could deadlock.
        await self.applications.end_all(transaction, user_id)
        await self.sessions.end_all(transaction, user_id)
        for kind in self.kinds.values():
            await kind.end_all(transaction, user_id)
