"""The statements on security events."""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import cache

from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Update, and_, bindparam, insert, select, update

from app.database.models import now, table_of
from app.database.pages import Listing, Page, PageQuery
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.history.models import ON_ANOTHER, StoredEvent
from app.history.schemas import EventRead
from app.security.events import Event
from app.users.models import User

EVENTS = table_of(StoredEvent)
USERS = table_of(User)
INSERT = insert(EVENTS).returning(EVENTS.c.id)
FILTERS: dict[str, ColumnElement[bool]] = {
    "user_id": EVENTS.c.user_id == bindparam("user_id"),
    "type": EVENTS.c.type == bindparam("type"),
    "since": EVENTS.c.created_at >= bindparam("since"),
    "until": EVENTS.c.created_at < bindparam("until"),
}


class Selection(Struct, frozen=True):
    """A choice of events: those of one account, of one type, from a moment on, and before a moment; None for any."""

    user_id: int | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def given(self) -> dict[str, object]:
        """The filters that are there, by their names."""
        return {name: value for name, value in structs.asdict(self).items() if value is not None}


@cache
def listing(filters: Collection[str]) -> Listing[EventRead]:
    """Return the statements that list the events that pass some of FILTERS, built at the first use."""
    where = and_(*(FILTERS[name] for name in sorted(filters))) if filters else None
    return Listing(StoredEvent, EventRead, key=StoredEvent.id, orders=[StoredEvent.created_at], where=where)


def forget_statement(whose: ColumnElement[bool]) -> Update:
    """Return the statement that removes addresses and devices from some of the events that have them."""
    has_any = EVENTS.c.address.is_not(None) | EVENTS.c.device.is_not(None)
    chosen = select(EVENTS.c.id).where(whose, has_any).limit(bindparam("most"))
    return update(EVENTS).where(EVENTS.c.id.in_(chosen)).values(address=None, device=None)


FORGET = (
    forget_statement(EVENTS.c.user_id == bindparam("account")),
    forget_statement((EVENTS.c.actor_id == bindparam("account")) & ON_ANOTHER),
)
IS_GONE = ~select(USERS.c.id).where(USERS.c.id == EVENTS.c.user_id).exists()
FORGET_LATE = forget_statement((EVENTS.c.created_at > bindparam("after")) & EVENTS.c.user_id.is_not(None) & IS_GONE)


class EventRepository(Repository[StoredEvent]):
    """The rows of `events`."""

    model_type = StoredEvent

    async def keep(self, event: Event, transaction: Transaction | None) -> None:
        """Add an event, in a transaction or by a statement of its own."""
        await self.rows(INSERT, structs.asdict(event), transaction)

    async def page_of(self, selection: Selection, query: PageQuery) -> Page[EventRead]:
        """Return one page of a selection."""
        given = selection.given
        return await self.page(listing(frozenset(given)), query, **given)

    async def forget(self, transaction: Transaction, user_id: int, most: int) -> bool:
        """Remove addresses and devices from the events about an account, and from those of what it did to others.

        Of each kind, `most` rows are changed. Return False when there may be more.
        """
        connection = await transaction.connection()
        values = {"account": user_id, "most": most}
        return all([(await connection.execute(statement, values)).rowcount < most for statement in FORGET])

    async def forget_late(self, within: timedelta, most: int) -> int:
        """Remove addresses and devices from events recorded after their account's deletion; return the number of rows.

        They were recorded `within` this time; at most `most` of them are changed. A login that is refused while its
        account is deleted may be recorded after the deletion.
        """
        async with self.database.transaction() as transaction:
            connection = await transaction.connection()
            return (await connection.execute(FORGET_LATE, {"after": now() - within, "most": most})).rowcount

    async def purge(self, keep: timedelta) -> int:
        """Delete the events that are older than `keep`, and return their number."""
        return await delete_in_batches(self.database, StoredEvent, StoredEvent.created_at < now() - keep)
