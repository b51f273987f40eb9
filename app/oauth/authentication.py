"""The authentication of applications at the token endpoint and its like (RFC 6749, section 2.3)."""

import hmac
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from urllib.parse import unquote_plus

from msgspec import Struct

from app.auth.access_tokens import AccessTokens
from app.auth.caller import Caller
from app.auth.service import InvalidClient
from app.database.models import now
from app.database.sessions import Transaction
from app.errors import OAuthError
from app.oauth.grants import GrantService
from app.oauth.repository import (
    ClientNotFound,
    ClientRepository,
    ClientTokenRepository,
    StoredClient,
)
from app.security.applications import Application
from app.security.id_tokens import IdTokens
from app.security.limits import Client
from app.security.random_tokens import digest


class Credentials(Struct, frozen=True):
    """The name and the secret of an application; a secret that isn't there is empty."""

    client_id: str
    secret: str


class StoredApplications:
    """The service that finds out which application sends a form, and keeps what people grant to it."""

    def __init__(
        self,
        clients: ClientRepository,
        given: GrantService,
        client_tokens: ClientTokenRepository,
        access_tokens: AccessTokens,
        id_tokens: IdTokens,
    ) -> None:
        self.clients = clients
        self.client_tokens = client_tokens
        self.given = given
        self.access_tokens = access_tokens
        self.id_tokens = id_tokens

    async def authenticate(self, form: Mapping[str, str], authorization: Sequence[str]) -> StoredClient | None:
        """Return the application that a form names, or its `Authorization: Basic`; None where none is known by it.

        Raise InvalidClient for a wrong secret, and OAuthError for a secret that comes twice. Whatever a public
        application sends as its secret is ignored.
        """
        basic = basic_credentials(authorization)
        name = basic.client_id if basic else form.get("client_id", "")
        client = await self.clients.by_client_id(name) if name else None
        if client is None or not client.confidential:
            return client
        if basic and ("client_secret" in form or form.get("client_id", name) != name):
            raise OAuthError("The client is named twice")
        if not has_secret(client, basic.secret if basic else form.get("client_secret", "")):
            raise InvalidClient
        return client

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

        The person's row is locked. Raise InvalidClient when the application has been removed.
        """
        try:
            return await self.given.give(transaction, Caller(user_id, session_id, client), application, scope)
        except ClientNotFound:
            raise InvalidClient from None

    async def end_all(self, transaction: Transaction, user_id: int) -> None:
        """End all that a person has granted, with all its sessions."""
        await self.given.grants.end_all(transaction, user_id)

    async def scope_of_token(self, token_id: int, client_id: str) -> str | None:
        """Return the scopes that an application may have by a token of its own; None when the token has ended."""
        return await self.client_tokens.scope_of(token_id, client_id, now())

    async def end_token(self, transaction: Transaction, token_id: int) -> bool:
        """End an application's own token; return False when there is none."""
        return await self.client_tokens.end(transaction, token_id)

    async def id_token(self, application: Application, access_token: str, expires_in: int) -> str | None:
        """Return the ID token that goes beside an access token; None where nobody has signed in by that.

        It has no nonce: that belongs to one request for authorization (OpenID Connect Core, section 12.2).
        """
        user = await self.access_tokens.signed_in(await self.access_tokens.tokens.read_access(access_token))
        if user is None or user.authenticated_at is None:
            return None
        return await self.id_tokens.issue(
            application.client_id,
            user.id,
            alg=application.id_token_signed_response_alg,
            nonce=None,
            auth_time=user.authenticated_at,
            amr=user.amr,
            access_token=access_token,
            lifetime=timedelta(seconds=expires_in),
        )


def has_secret(client: StoredClient, secret: str) -> bool:
    """Return whether an application has a secret, or had it until a day ago at most."""
    given = digest(secret)
    is_new = hmac.compare_digest(given, client.secret_digest or b"")
    is_former = hmac.compare_digest(given, client.former_secret_digest or b"")
    return is_new or (is_former and client.former_secret_until is not None and client.former_secret_until > now())


def basic_credentials(authorization: Sequence[str]) -> Credentials | None:
    """Return what the one Authorization header says by the scheme Basic, each part of it encoded as in a form.

    Return None for another scheme, and for what can't be read: that names no application.
    """
    scheme, _, encoded = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return Credentials(unquote_plus(name), unquote_plus(secret))
