"""The rules of history: events are kept, and lose what tells of a person when the person's account is deleted."""

from app.database.sessions import Transaction
from app.history.repository import EventRepository
from app.security.events import Event

FORGET_AT_ONCE = 1_000


class History:
    """The store of security events."""

    def __init__(self, events: EventRepository) -> None:
        self.events = events

    async def keep(self, event: Event, transaction: Transaction | None) -> None:
        """Keep an event: in a transaction, or with None in one of its own."""
        await self.events.keep(event, transaction)

    async def forget(self, transaction: Transaction, user_id: int) -> None:
        """Remove addresses and devices from the events of an account."""
        await self.events.forget(transaction, user_id, FORGET_AT_ONCE)
