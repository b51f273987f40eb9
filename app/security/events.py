"""Security events: logins, failures, and changes of credentials and rights. One call tells each.

The call logs a line. Where a store is there, which the feature `history` brings, it also adds a row, in the transaction
of what the event tells: the row commits with it, and the line is logged after the commit.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol, TypeAlias

from limits import RateLimitItemPerMinute
from msgspec import Struct

from app.database.models import now
from app.database.sessions import Transaction, after_commit
from app.errors import TooManyRequests
from app.logs import log_security_event, request_id
from app.security.limits import Client, Limits

REFUSALS = RateLimitItemPerMinute(20, 15, namespace="refusals")
"""The most rows about refusals of one type, to one account and client network."""
REFUSALS_PER_NETWORK = RateLimitItemPerMinute(200, 15, namespace="refusals-per-network")

Detail: TypeAlias = str | int | bool | Sequence[str] | None
"""A value that says more about an event: an id, a number, a scope; never a secret, a name or an address."""
NONE: Mapping[str, Detail] = {}


class Ids(Struct, frozen=True):
    """The ids in an event: whose account it is about, who did it (None where nobody knows), and by what."""

    user_id: int | None = None
    actor_id: int | None = None
    session_id: int | None = None
    client_id: str | None = None


class Event(Struct, frozen=True):
    """An event, as it is kept; `client_id` is an OAuth client's, `address` and `device` are the request's."""

    type: str
    user_id: int | None
    actor_id: int | None
    client_id: str | None
    session_id: int | None
    address: str | None
    device: str | None
    request_id: str | None
    details: Mapping[str, Detail]
    created_at: datetime


class EventStore(Protocol):
    """A store that keeps events."""

    async def keep(self, event: Event, transaction: Transaction | None) -> None:
        """Keep an event: in a transaction, or with None in one of its own, which has committed at the return."""

    async def forget(self, transaction: Transaction, user_id: int) -> None:
        """Remove addresses and devices from the events about an account, and from those of what it did."""


class UndeclaredEvent(LookupError):
    """No feature of the application declares that type of events: a bug."""


class Events:
    """The security events of one application."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.types: dict[str, str] = {}
        """The types that the features declare, and what each tells."""
        self.store: EventStore | None = None
        self.observers: list[Callable[[str], None]] = []
        """Functions that are called with the type of each event, such as the metrics'."""

    async def record(
        self,
        transaction: Transaction,
        type_: str,
        client: Client | None,
        *,
        user_id: int | None = None,
        actor_id: int | None = None,
        session_id: int | None = None,
        client_id: str | None = None,
        **details: Detail,
    ) -> None:
        """Record an event of what a transaction does: the row is a part of it, and the line follows its commit.

        `client` is None for an operator's command. Raise UndeclaredEvent.
        """
        await self.record_of(transaction, type_, client, Ids(user_id, actor_id, session_id, client_id), details)

    async def record_of(
        self,
        transaction: Transaction,
        type_: str,
        client: Client | None,
        ids: Ids,
        details: Mapping[str, Detail] = NONE,
    ) -> None:
        """Record an event as `record` does."""
        event = self._event(type_, client, ids, details)
        if self.store:
            await self.store.keep(event, transaction)
        after_commit(transaction, partial(self._tell, event))

    async def record_alone(
        self, type_: str, client: Client | None, *, user_id: int | None = None, **details: Detail
    ) -> None:
        """Record a refusal, which changes nothing else: first the row, in a transaction of its own, then the line.

        Rows are limited, since anybody can have something refused for ever: beyond REFUSALS there is the line alone.
        Raise UndeclaredEvent, and the database's errors.
        """
        await self.record_alone_of(type_, client, Ids(user_id), details)

    async def record_alone_of(
        self, type_: str, client: Client | None, ids: Ids, details: Mapping[str, Detail] = NONE
    ) -> None:
        """Record a refusal as `record_alone` does."""
        event = self._event(type_, client, ids, details)
        if self.store and await self._within_limits(event, client.network if client else ""):
            await self.store.keep(event, None)
        self._tell(event)

    async def forget(self, transaction: Transaction, user_id: int) -> None:
        """Remove addresses and devices from the events of an account that is deleted in this transaction."""
        if self.store:
            await self.store.forget(transaction, user_id)

    def _event(self, type_: str, client: Client | None, ids: Ids, details: Mapping[str, Detail]) -> Event:
        if type_ not in self.types:
            raise UndeclaredEvent(type_)
        return Event(
            type=type_,
            user_id=ids.user_id,
            actor_id=ids.actor_id,
            client_id=ids.client_id,
            session_id=ids.session_id,
            address=(client.address if client else "") or None,
            device=(client.device if client else "") or None,
            request_id=request_id.get() or None,
            details=details,
            created_at=now(),
        )

    async def _within_limits(self, event: Event, network: str) -> bool:
        """Count a refusal, and return whether its row may be added."""
        try:
            await self.limits.hit(REFUSALS, event.type, str(event.user_id), network)
            await self.limits.hit(REFUSALS_PER_NETWORK, event.type, network)
        except TooManyRequests:
            return False
        return True

    def _tell(self, event: Event) -> None:
        """Log the line of an event, and tell the observers."""
        ids = {"session_id": event.session_id, "client_id": event.client_id}
        log_security_event(
            event.type,
            user_id=event.user_id,
            actor_id=event.actor_id,
            address=event.address,
            **{name: value for name, value in ids.items() if value is not None},
            **event.details,
        )
        for observe in self.observers:
            observe(event.type)
