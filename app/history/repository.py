"""The statements on security events."""

from msgspec import structs
from sqlalchemy import ColumnElement, Update, bindparam, insert, select, update

from app.database.models import table_of
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.history.models import ON_ANOTHER, StoredEvent
from app.security.events import Event

EVENTS = table_of(StoredEvent)
INSERT = insert(EVENTS).returning(EVENTS.c.id)


def forget_statement(whose: ColumnElement[bool]) -> Update:
    """Return the statement that removes addresses and devices from some of the events that have them."""
    has_any = EVENTS.c.address.is_not(None) | EVENTS.c.device.is_not(None)
    chosen = select(EVENTS.c.id).where(whose, has_any).limit(bindparam("most"))
    return update(EVENTS).where(EVENTS.c.id.in_(chosen)).values(address=None, device=None)


FORGET = (
    forget_statement(EVENTS.c.user_id == bindparam("account")),
    forget_statement((EVENTS.c.actor_id == bindparam("account")) & ON_ANOTHER),
)


class EventRepository(Repository[StoredEvent]):
    """The rows of `events`."""

    model_type = StoredEvent

    async def keep(self, event: Event, transaction: Transaction | None) -> None:
        """Add an event, in a transaction or by a statement of its own."""
        await self.rows(INSERT, structs.asdict(event), transaction)

    async def forget(self, transaction: Transaction, user_id: int, most: int) -> bool:
        """Remove addresses and devices from the events about an account, and from those of what it did to others.

        Of each kind, `most` rows are changed. Return False when there may be more.
        """
        connection = await transaction.connection()
        values = {"account": user_id, "most": most}
        return all([(await connection.execute(statement, values)).rowcount < most for statement in FORGET])
