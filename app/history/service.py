"""The rules of history: events are kept for a time, and lose what tells of a person whose account is deleted."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from time import monotonic

import msgspec

from app.database.pages import Page, PageQuery
from app.database.sessions import Transaction
from app.database.turns import Turns
from app.history.repository import EventRepository, Selection
from app.history.schemas import EventRead
from app.jobs.models import Payload
from app.jobs.queue import JobQueue
from app.security.events import Event

FORGET_JOB = "forget_events"
FORGET_AT_ONCE = 1_000
LATE = timedelta(days=2)
STREAMS_AT_ONCE = 4
STREAM_SECONDS = 15 * 60
ROWS_AT_ONCE = 1_000

encoder = msgspec.json.Encoder()


class HistoryService:
    """The service that lists the events of one database."""

    def __init__(self, events: EventRepository) -> None:
        self.events = events
        self.turns = Turns(STREAMS_AT_ONCE, "streams of events")

    async def page(self, selection: Selection, query: PageQuery) -> Page[EventRead]:
        """Return one page of a selection."""
        return await self.events.page_of(selection, query)

    async def lines(self, selection: Selection, caller_id: int) -> AsyncGenerator[bytes]:
        """Yield a whole selection, newest first, as JSON lines: many rows at a time, so that memory stays bounded.

        Each part is a page by keyset, which holds no connection while the client reads it. A row that was there all the
        time comes once; one that is added meanwhile is newer, and doesn't come. Raise Unavailable when too many streams
        run, and TimeoutError after STREAM_SECONDS, which breaks the answer off.
        """
        end = monotonic() + STREAM_SECONDS
        query = PageQuery(ROWS_AT_ONCE, "-created_at", (), None, count=False, caller_id=caller_id)
        async with self.turns.turn(caller_id):
            while True:
                page = await self.events.page_of(selection, query)
                yield encoder.encode_lines(page.rows)
                if page.last is None:
                    return
                if monotonic() > end:
                    raise TimeoutError("The stream took too long")
                query = msgspec.structs.replace(query, after=page.last)


class EventHistory:
    """The store of security events."""

    def __init__(self, events: EventRepository, jobs: JobQueue, *, keep_days: int) -> None:
        self.events = events
        self.jobs = jobs
        self.keep_days = keep_days

    async def keep(self, event: Event, transaction: Transaction | None) -> None:
        """Keep an event: in a transaction, or with None in one of its own."""
        await self.events.keep(event, transaction)

    async def forget(self, transaction: Transaction, user_id: int) -> None:
        """Remove addresses and devices from the events of an account, which is deleted in the transaction.

        The transaction changes FORGET_AT_ONCE of them; where there are more, a job does the rest.
        """
        if not await self.events.forget(transaction, user_id, FORGET_AT_ONCE):
            await self.jobs.enqueue(transaction, FORGET_JOB, {"user_id": user_id})

    async def forget_rest(self, payload: Payload) -> None:
        """Remove addresses and devices from the rest of an account's events, FORGET_AT_ONCE in each transaction."""
        is_done = False
        while not is_done:
            async with self.events.database.transaction() as transaction:
                is_done = await self.events.forget(transaction, int(payload["user_id"]), FORGET_AT_ONCE)

    async def forget_late(self) -> int:
        """Remove addresses and devices from events recorded after their account's deletion; return their number."""
        total, changed = 0, FORGET_AT_ONCE
        while changed == FORGET_AT_ONCE:
            changed = await self.events.forget_late(LATE, FORGET_AT_ONCE)
            total += changed
        return total

    async def purge(self) -> int:
        """Delete the events that are older than EVENTS_KEEP_DAYS, and return their number."""
        return await self.events.purge(timedelta(days=self.keep_days))
