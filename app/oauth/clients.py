"""The rules of applications: which can be registered, and their secrets."""

from collections.abc import Container
from datetime import timedelta
from typing import Any

from msgspec import UNSET, Struct, structs

from app.auth.caller import Caller
from app.auth.repository import SessionRepository
from app.database.models import now
from app.database.sessions import retry_on_deadlock
from app.errors import Conflict, InvalidField, InvalidFields
from app.oauth.models import OAuthClient
from app.oauth.redirects import origin_of, reason_against
from app.oauth.repository import ClientRepository, StoredClient
from app.oauth.schemas import ClientCreate, ClientUpdate
from app.security.events import Events
from app.security.random_tokens import base62, digest

CLIENT_ID_LENGTH = 24
SECRET_LENGTH = 43
"""Of the characters of a secret, which are 256 bits."""
FORMER_SECRET_FOR = timedelta(days=1)
CODE_GRANT = "authorization_code"
CREDENTIALS_GRANT = "client_credentials"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Registered(Struct, frozen=True):
    """An application, and its secret where it has just got one."""

    client: StoredClient
    secret: str | None


class ClientService:
    """The service that registers, changes and removes applications."""

    def __init__(
        self, clients: ClientRepository, sessions: SessionRepository, events: Events, scopes: Container[str]
    ) -> None:
        """`scopes` are those of all features."""
        self.database = clients.database
        self.clients = clients
        self.sessions = sessions
        self.events = events
        self.scopes = scopes

    async def create(self, data: ClientCreate, by: Caller | None) -> Registered:
        """Register an application; `by` is None for an operator's command.

        Raise InvalidFields, and InvalidCredentials when the session has ended meanwhile.
        """
        self.check(data, confidential=data.confidential)
        secret = base62(SECRET_LENGTH) if data.confidential else None
        columns = {
            **as_texts(structs.asdict(data)),
            "client_id": base62(CLIENT_ID_LENGTH),
            "secret_digest": digest(secret) if secret else None,
        }
        async with self.database.transaction() as transaction:
            if by:
                await self.sessions.lock_caller(transaction, by)
            client = await self.clients.create(transaction, columns, origins_of(data.redirect_uris))
            await self.events.record(
                transaction, "client_created", by.client if by else None, **ids_of(by), client_id=client.client_id
            )
        return Registered(client, secret)

    async def all(self) -> list[StoredClient]:
        """Return all applications."""
        return await self.clients.all()

    async def read(self, row_id: int) -> StoredClient:
        """Return one application. Raise ClientNotFound."""
        return await self.clients.read(row_id)

    async def update(self, row_id: int, data: ClientUpdate, by: Caller) -> StoredClient:
        """Change what is given of an application.

        Raise ClientNotFound and InvalidFields, and InvalidCredentials when the session has ended meanwhile.
        """
        changes = {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
        async with self.database.transaction() as transaction:
            await self.sessions.lock_caller(transaction, by)
            row = await self.clients.to_change(transaction, row_id)
            whole = ClientUpdate(**{**as_lists(row, self.scopes), **changes})
            self.check(whole, confidential=row.confidential)
            for name, value in as_texts(changes).items():
                setattr(row, name, value)
            await transaction.flush()
            if data.redirect_uris is not UNSET:
                await self.clients.set_origins(transaction, row_id, origins_of(data.redirect_uris))
            await self.events.record(
                transaction, "client_changed", by.client, **ids_of(by), client_id=row.client_id, changed=sorted(changes)
            )
            return await self.clients.read(row_id, transaction)

    @retry_on_deadlock
    async def delete(self, row_id: int, by: Caller) -> None:
        """Remove an application; its grants, and all tokens, end with it. Raise ClientNotFound."""
        async with self.database.transaction() as transaction:
            row = await self.clients.to_change(transaction, row_id)
            await self.clients.remove(transaction, row)
            await self.events.record(transaction, "client_deleted", by.client, **ids_of(by), client_id=row.client_id)

    async def new_secret(self, row_id: int, by: Caller) -> str:
        """Return a new secret; the one before it is good for another day.

        Raise ClientNotFound and NoSecret, and InvalidCredentials when the session has ended meanwhile.
        """
        secret = base62(SECRET_LENGTH)
        async with self.database.transaction() as transaction:
            await self.sessions.lock_caller(transaction, by)
            row = await self.clients.to_change(transaction, row_id)
            if not row.confidential:
                raise NoSecret
            row.former_secret_digest, row.former_secret_until = row.secret_digest, now() + FORMER_SECRET_FOR
            row.secret_digest = digest(secret)
            await self.events.record(
                transaction, "client_secret_created", by.client, **ids_of(by), client_id=row.client_id
            )
        return secret

    def check(self, data: ClientCreate | ClientUpdate, *, confidential: bool) -> None:
        """Raise InvalidFields for an application that can't be."""
        errors = [
            InvalidField(f"/redirect_uris/{number}", reason)
            for number, uri in enumerate(data.redirect_uris or [])
            if (reason := reason_against(uri))
        ]
        unknown = [scope for scope in data.scopes or [] if scope not in self.scopes]
        if unknown:
            errors.append(InvalidField("/scopes", "has unknown scopes"))
        errors += [InvalidField(f"/{name}", "has one twice") for name in LISTS if has_twice(getattr(data, name))]
        grant_types = data.grant_types or []
        if CODE_GRANT in grant_types and not data.redirect_uris:
            errors.append(InvalidField("/redirect_uris", "must have one for authorization_code"))
        if CREDENTIALS_GRANT in grant_types and not confidential:
            errors.append(InvalidField("/grant_types", "has client_credentials, which needs a secret"))
        if errors:
            raise InvalidFields(*errors)


LISTS = ("redirect_uris", "grant_types", "scopes")


class NoSecret(Conflict):
    """The application is a public one, and has no secret."""

    detail = "A public application has no secret"


def has_twice(values: list[str]) -> bool:
    """Return whether a list has something twice."""
    return len(set(values)) < len(values)


def as_texts(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of fields of an application: lists are texts with spaces."""
    columns = {name: " ".join(value) if name in LISTS else value for name, value in fields.items()}
    if "scopes" in columns:
        columns["scope"] = columns.pop("scopes")
    return columns


def as_lists(row: OAuthClient, scopes: Container[str]) -> dict[str, Any]:
    """Return the fields of an application that lists hold, with those of its scopes that there are."""
    return {
        "redirect_uris": row.redirect_uris.split(),
        "grant_types": row.grant_types.split(),
        "scopes": [scope for scope in row.scope.split() if scope in scopes],
    }


def origins_of(redirect_uris: list[str]) -> list[str]:
    """Return the web origins of redirect URIs."""
    return [origin for uri in redirect_uris if (origin := origin_of(uri))]


def ids_of(by: Caller | None) -> dict[str, int]:
    """Return who changes an application, as events have it."""
    return {"actor_id": by.id, "session_id": by.session_id} if by else {}
