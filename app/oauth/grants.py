"""The rules of what people have granted applications."""

from app.auth.caller import Caller
from app.auth.sessions import to_minute
from app.database.sessions import Transaction
from app.errors import NotFound
from app.oauth.repository import ClientRepository, GrantRepository, ListedGrant
from app.oauth.schemas import GrantRead
from app.security.applications import Application
from app.security.events import Events, Ids


class GrantNotFound(NotFound):
    """The caller has granted no such thing; the client isn't told whether another user has."""

    detail = "Grant not found"


class GrantService:
    """The service that lists and ends what a person has granted."""

    def __init__(self, grants: GrantRepository, clients: ClientRepository, events: Events) -> None:
        self.grants = grants
        self.clients = clients
        self.events = events

    async def all(self, user_id: int) -> list[GrantRead]:
        """Return all that a person has granted, the oldest first; times are no finer than a minute, as of sessions."""
        return [read(grant) for grant in await self.grants.of_user(user_id)]

    async def give(self, transaction: Transaction, by: Caller, application: Application, scope: str) -> int:
        """Grant an application some scopes of a person beside those that it has, and return the grant's id.

        The person's row is locked. Raise ClientNotFound when the application has just been removed.
        """
        before = await self.grants.of_person(by.id, application.id, transaction)
        grant_id = await self.grants.widen(transaction, by.id, application.id, scope)
        if before is None or not set(scope.split()) <= set(before.scope.split()):
            ids = Ids(by.id, by.id, by.session_id, application.client_id)
            await self.events.record_of(transaction, "grant_given", by.client, ids, {"scope": scope})
        return grant_id

    async def end(self, transaction: Transaction, caller: Caller, grant_id: int) -> None:
        """End a grant and all its sessions, and forget the consent. Raise GrantNotFound."""
        client_row_id = await self.grants.end(transaction, caller.id, grant_id)
        if client_row_id is None:
            raise GrantNotFound
        client = await self.clients.read(client_row_id, transaction)
        await caller.record(self.events, transaction, "grant_ended", application=client.client_id)


def read(grant: ListedGrant) -> GrantRead:
    """Return a grant as its person sees it."""
    return GrantRead(
        id=grant.id,
        client_id=grant.client_id,
        name=grant.name,
        scopes=grant.scope.split(),
        created_at=to_minute(grant.created_at),
        last_used_at=grant.last_used_at and to_minute(grant.last_used_at),
    )
