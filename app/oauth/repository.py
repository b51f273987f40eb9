"""The statements on applications, on what people have granted them, and on tokens of their own."""

from collections.abc import Collection, Container, Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import ColumnElement, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from app.auth.models import LoginSession
from app.database.failures import refusals
from app.database.models import columns_of, now
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Database, Transaction
from app.errors import Conflict, NotFound, Unauthorized
from app.oauth.models import ClientToken, OAuthClient, OAuthGrant, OAuthOrigin


class ClientNotFound(NotFound):
    """No application has that id."""

    detail = "Application not found"


class SessionEnded(Unauthorized):
    """The session in which a person answers has just ended, or what they had granted before."""


class StoredClient(Struct, frozen=True):
    """An application, as it is stored."""

    id: int
    client_id: str
    name: str
    redirect_uris: str
    grant_types: str
    scope: str
    confidential: bool
    first_party: bool
    id_token_signed_response_alg: str
    secret_digest: bytes | None
    former_secret_digest: bytes | None
    former_secret_until: datetime | None

    def may(self, grant_type: str) -> bool:
        """Return whether it may get tokens in a way."""
        return grant_type in self.grant_types.split()


class BuiltIn(Struct, frozen=True):
    """An application that comes with the service, and needs no registration: its row is made when it is first used."""

    client_id: str
    name: str
    redirect_uris: str
    scopes: Collection[str]
    """All of the service's, which are known only when all features are there."""

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of its row, but for times."""
        return {
            "client_id": self.client_id,
            "name": self.name,
            "redirect_uris": self.redirect_uris,
            "grant_types": "authorization_code refresh_token",
            "scope": " ".join(self.scopes),
            "confidential": False,
            "first_party": True,
            "id_token_signed_response_alg": "RS256",
        }


CLIENTS = select(*columns_of(OAuthClient, StoredClient))
BY_CLIENT_ID = CLIENTS.where(OAuthClient.client_id == bindparam("name"))
BY_ID = CLIENTS.where(OAuthClient.id == bindparam("row"))
ALL_CLIENTS = CLIENTS.order_by(OAuthClient.id)
# Of two processes that add the same row, one does.
ADD = {
    "postgresql": postgresql.insert(OAuthClient).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(OAuthClient).on_conflict_do_nothing(),
}
IS_ORIGIN = select(OAuthOrigin.origin).where(OAuthOrigin.origin == bindparam("origin")).limit(1)


class ClientRepository(Repository[OAuthClient]):
    """The rows of `oauth_clients` and of `oauth_origins`."""

    model_type = OAuthClient

    def __init__(self, database: Database, scopes: Container[str], built_in: BuiltIn | None = None) -> None:
        """`scopes` are those of all features. An application may have others still, of a feature that was taken out."""
        super().__init__(database)
        self.scopes = scopes
        self.built_in = built_in

    async def by_client_id(self, client_id: str) -> StoredClient | None:
        """Return an application by its name in requests; None when there is none."""
        if "\0" in client_id:  # PostgreSQL can't even compare it.
            return None
        if self.built_in and client_id == self.built_in.client_id:
            return await self.use_built_in(self.built_in)
        rows = await self.rows(BY_CLIENT_ID, {"name": client_id})
        return self._read(rows[0]) if rows else None

    async def use_built_in(self, built_in: BuiltIn) -> StoredClient:
        """Return the application that comes with the service, as it is now; add its row where there is none."""
        rows = await self.rows(BY_CLIENT_ID, {"name": built_in.client_id})
        if not rows:
            moment = {"created_at": now(), "updated_at": now()}
            async with self.database.transaction() as transaction:
                await transaction.execute(ADD[self.database.engine.dialect.name], built_in.columns | moment)
            rows = await self.rows(BY_CLIENT_ID, {"name": built_in.client_id})
        return structs.replace(StoredClient(*rows[0]), **built_in.columns)

    async def read(self, row_id: int, transaction: Transaction | None = None) -> StoredClient:
        """Return one application. Raise ClientNotFound."""
        rows = await self.rows(BY_ID, {"row": row_id}, transaction)
        if not rows:
            raise ClientNotFound
        return self._read(rows[0])

    async def all(self) -> list[StoredClient]:
        """Return all applications, the oldest first."""
        return [self._read(row) for row in await self.rows(ALL_CLIENTS, {})]

    async def to_change(self, transaction: Transaction, row_id: int) -> OAuthClient:
        """Return an application, locked against other changes until the transaction ends. Raise ClientNotFound."""
        client = await self.within(transaction).get_one_or_none(id=row_id, with_for_update=True)
        if client is None:
            raise ClientNotFound
        return client

    async def create(self, transaction: Transaction, columns: dict[str, Any], origins: Iterable[str]) -> StoredClient:
        """Add an application, with the origins of its redirect URIs."""
        moment = now()
        added = insert(OAuthClient).values(**columns, created_at=moment, updated_at=moment)
        row = (await transaction.execute(added.returning(*columns_of(OAuthClient, StoredClient)))).one()
        client = StoredClient(*row)
        await self.set_origins(transaction, client.id, origins)
        return client

    async def set_origins(self, transaction: Transaction, row_id: int, origins: Iterable[str]) -> None:
        """Replace the origins of an application."""
        await transaction.execute(delete(OAuthOrigin).where(OAuthOrigin.client_row_id == row_id))
        rows = [{"client_row_id": row_id, "origin": origin} for origin in sorted(set(origins))]
        if rows:
            await transaction.execute(insert(OAuthOrigin), rows)

    async def is_origin(self, origin: str) -> bool:
        """Return whether an application has a redirect URI at an origin."""
        return "\0" not in origin and bool(await self.rows(IS_ORIGIN, {"origin": origin}))

    def _read(self, row: Iterable[Any]) -> StoredClient:
        """Return an application with those of its scopes that there are."""
        client = StoredClient(*row)
        known = " ".join(scope for scope in client.scope.split() if scope in self.scopes)
        return client if known == client.scope else structs.replace(client, scope=known)


class StoredGrant(Struct, frozen=True):
    """The scopes that a person has granted an application."""

    id: int
    scope: str


class ListedGrant(Struct, frozen=True):
    """A grant as its person sees it."""

    id: int
    client_id: str
    name: str
    scope: str
    created_at: datetime
    last_used_at: datetime | None


OF_PERSON = select(*columns_of(OAuthGrant, StoredGrant)).where(
    OAuthGrant.user_id == bindparam("owner"), OAuthGrant.client_row_id == bindparam("client")
)
LAST_USED = (
    select(func.max(LoginSession.last_used_at))
    .where(LoginSession.grant_id == OAuthGrant.id, LoginSession.expires_at > bindparam("now"))
    .scalar_subquery()
)
LIST = (
    select(OAuthGrant.id, OAuthClient.client_id, OAuthClient.name, OAuthGrant.scope, OAuthGrant.created_at, LAST_USED)
    .join(OAuthClient, OAuthClient.id == OAuthGrant.client_row_id)
    .where(OAuthGrant.user_id == bindparam("owner"))
    .order_by(OAuthGrant.id)
)


class GrantRepository(Repository[OAuthGrant]):
    """The rows of `oauth_grants`."""

    model_type = OAuthGrant

    async def of_person(
        self, user_id: int, client_row_id: int, transaction: Transaction | None = None
    ) -> StoredGrant | None:
        """Return a person's grant to an application; None when there is none."""
        rows = await self.rows(OF_PERSON, {"owner": user_id, "client": client_row_id}, transaction)
        return StoredGrant(*rows[0]) if rows else None

    async def widen(self, transaction: Transaction, user_id: int, client_row_id: int, scope: str) -> int:
        """Add scopes to a person's grant to an application, which begins with them, and return its id.

        The person's row is locked, so that of two calls the later one sees what the earlier one has granted. Raise
        ClientNotFound.
        """
        moment = now()
        grant = await self.of_person(user_id, client_row_id, transaction)
        if grant is None:
            keys = {"user_id": user_id, "client_row_id": client_row_id}
            added = insert(OAuthGrant).values(**keys, scope=scope, created_at=moment, updated_at=moment)
            with refusals(duplicate=ClientNotFound, orphan=ClientNotFound):
                return (await transaction.execute(added.returning(OAuthGrant.id))).scalar_one()
        wider = " ".join(dict.fromkeys([*grant.scope.split(), *scope.split()]))
        if wider != grant.scope:
            changed = update(OAuthGrant).where(OAuthGrant.id == grant.id).values(scope=wider, updated_at=moment)
            await transaction.execute(changed)
        return grant.id

    async def lock(self, transaction: Transaction, grant_id: int) -> bool:
        """Keep a grant from being ended until the transaction ends; return False when it has been."""
        kept = select(OAuthGrant.id).where(OAuthGrant.id == grant_id).with_for_update(read=True, key_share=True)
        return (await transaction.execute(kept)).first() is not None

    async def of_user(self, user_id: int) -> list[ListedGrant]:
        """Return all that a person has granted, the oldest first."""
        return [ListedGrant(*row) for row in await self.rows(LIST, {"owner": user_id, "now": now()})]

    async def end(self, transaction: Transaction, user_id: int, grant_id: int) -> int | None:
        """End a grant of a person's with all its sessions, and return its application's row id; None for no grant."""
        chosen = (OAuthGrant.id == grant_id) & (OAuthGrant.user_id == user_id)
        ended = await transaction.execute(delete(OAuthGrant).where(chosen).returning(OAuthGrant.client_row_id))
        return ended.scalar()

    async def end_all(self, transaction: Transaction, user_id: int) -> None:
        """End all that a person has granted, with all its sessions."""
        await transaction.execute(delete(OAuthGrant).where(OAuthGrant.user_id == user_id))


APPLICATION_OF_TOKEN = (
    select(OAuthClient.scope)
    .join(ClientToken, ClientToken.client_row_id == OAuthClient.id)
    .where(
        ClientToken.id == bindparam("token"),
        ClientToken.expires_at > bindparam("at"),
        OAuthClient.client_id == bindparam("name"),
    )
)


class ClientTokenRepository(Repository[ClientToken]):
    """The rows of `client_tokens`."""

    model_type = ClientToken

    async def create(self, transaction: Transaction, token_id: int, client_row_id: int, expires_at: datetime) -> None:
        """Add a token. Raise ClientNotFound when its application has just been removed."""
        columns = {"id": token_id, "client_row_id": client_row_id, "expires_at": expires_at}
        with refusals(duplicate=Conflict, orphan=ClientNotFound):
            await transaction.execute(insert(ClientToken).values(**columns))

    async def scope_of(self, token_id: int, client_id: str, moment: datetime) -> str | None:
        """Return the scopes that the application of a live token has; None when the token has ended."""
        rows = await self.rows(APPLICATION_OF_TOKEN, {"token": token_id, "name": client_id, "at": moment})
        return rows[0][0] if rows else None

    async def end(self, transaction: Transaction, token_id: int) -> bool:
        """End a token; return False when there is none."""
        ended = delete(ClientToken).where(ClientToken.id == token_id).returning(ClientToken.id)
        return (await transaction.execute(ended)).first() is not None

    async def purge(self) -> int:
        """Delete the tokens that have expired, and return their number."""
        return await delete_in_batches(self.database, ClientToken, ClientToken.expires_at <= now())


def amr_now(columns: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[str]:
    """Return the methods that the session has now in which a code or a device was approved.

    A session loses a level that it had by a factor that is removed, and what it has approved loses that with it.
    """
    return func.coalesce(LoginSession.amr, columns["amr"])
