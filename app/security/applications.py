"""Applications of others that act for people: what the rest of the service needs to know of them.

The feature `oauth` brings them. Without it there are none.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from app.database.sessions import Transaction
from app.security.limits import Client


class Application(Protocol):
    """An application that has proved who it is, as far as it has a secret."""

    @property
    def id(self) -> int:
        """The id of its row."""

    @property
    def client_id(self) -> str:
        """Its name in requests."""

    @property
    def scope(self) -> str:
        """The scopes that it may ask for, with spaces between them."""

    @property
    def id_token_signed_response_alg(self) -> str:
        """The algorithm that signs its ID tokens."""

    @property
    def first_party(self) -> bool:
        """True for the operator's own, which people may tell their passwords."""

    def may(self, grant_type: str) -> bool:
        """Return whether it may get tokens in a way."""


class ApplicationStore(Protocol):
    """A store of applications."""

    async def authenticate(self, form: Mapping[str, str], authorization: Sequence[str]) -> Application | None:
        """Return the application that sends a form with such headers; None for an unknown one. Raise OAuthError."""

    async def open_grant(
        self,
        transaction: Transaction,
        user_id: int,
        session_id: int,
        client: Client,
        application: Application,
        scope: str,
    ) -> int:
        """Return the id of a person's grant to an application, which has these scopes from now on, by a session.

        Raise OAuthError.
        """

    async def end_all(self, transaction: Transaction, user_id: int) -> None:
        """End all that a person has granted, with all its sessions."""

    async def scope_of_token(self, token_id: int, client_id: str) -> str | None:
        """Return the scopes that an application may have by a token of its own; None when the token has ended."""

    async def end_token(self, transaction: Transaction, token_id: int) -> bool:
        """End an application's own token; return False when there is none."""

    async def id_token(self, application: Application, access_token: str, expires_in: int) -> str | None:
        """Return what tells an application who has signed in to its session; None where nobody has."""


class Applications:
    """The applications of one service, none unless a store is there; and the scopes that anything can be granted."""

    def __init__(self, scopes: Container[str]) -> None:
        self.scopes = scopes
        self.store: ApplicationStore | None = None

    async def authenticate(self, form: Mapping[str, str], authorization: Sequence[str]) -> Application | None:
        """Return the application that sends a form; None where it names none, or an unknown one. Raise OAuthError."""
        return await self.store.authenticate(form, authorization) if self.store else None

    async def open_grant(
        self,
        transaction: Transaction,
        user_id: int,
        session_id: int,
        client: Client,
        application: Application,
        scope: str,
    ) -> int:
        """Return the id of a person's grant to an application, which has these scopes from now on, by a session.

        Raise OAuthError.
        """
        if self.store is None:
            raise LookupError(application.client_id)
        return await self.store.open_grant(transaction, user_id, session_id, client, application, scope)

    async def end_all(self, transaction: Transaction, user_id: int) -> None:
        """End all that a person has granted."""
        if self.store:
            await self.store.end_all(transaction, user_id)

    async def scope_of_token(self, token_id: int, client_id: str) -> str | None:
        """Return the scopes that an application may have by a token of its own; None when the token has ended."""
        return await self.store.scope_of_token(token_id, client_id) if self.store else None

    async def end_token(self, transaction: Transaction, token_id: int) -> bool:
        """End an application's own token; return False when there is none."""
        return self.store is not None and await self.store.end_token(transaction, token_id)

    async def id_token(self, application: Application, access_token: str, expires_in: int) -> str | None:
        """Return what tells an application who has signed in to its session; None where nobody has.

        Call it outside of any transaction: it may have to make and store a key.
        """
        return await self.store.id_token(application, access_token, expires_in) if self.store else None
