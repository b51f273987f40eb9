"""The rules of tokens by which an application acts for itself, and for nobody (RFC 6749, section 4.4)."""

import secrets
from datetime import timedelta

from app.auth.schemas import Token
from app.auth.scopes import narrow, read_scope
from app.auth.service import MAX_SESSION_ID, InvalidClient, UnauthorizedClient
from app.database.models import now
from app.oauth.clients import CREDENTIALS_GRANT
from app.oauth.repository import ClientNotFound, ClientTokenRepository, StoredClient
from app.security.applications import Applications
from app.security.events import Events
from app.security.limits import Client
from app.security.tokens import ACCESS, Tokens

SUBJECT = "client:{}"


class ClientCredentialsService:
    """The service that gives applications tokens of their own."""

    def __init__(
        self,
        client_tokens: ClientTokenRepository,
        tokens: Tokens,
        applications: Applications,
        events: Events,
        *,
        lifetime: timedelta,
    ) -> None:
        self.database = client_tokens.database
        self.client_tokens = client_tokens
        self.tokens = tokens
        self.applications = applications
        self.events = events
        self.lifetime = lifetime

    async def issue(self, application: StoredClient, scope: str | None, client: Client) -> Token:
        """Return an access token of an application's own.

        Raise UnauthorizedClient, InvalidScope, and InvalidClient when the application has just been removed.
        """
        if not application.may(CREDENTIALS_GRANT):
            raise UnauthorizedClient
        granted = narrow(application.scope, read_scope(scope, self.applications.scopes)) or ""
        token_id = secrets.randbelow(MAX_SESSION_ID) + 1
        name = application.client_id
        try:
            async with self.database.transaction() as transaction:
                await self.client_tokens.create(transaction, token_id, application.id, now() + self.lifetime)
                await self.events.record(transaction, "client_token_created", client, client_id=name, scope=granted)
        except ClientNotFound:
            raise InvalidClient from None
        access_token = self.tokens.issue(
            ACCESS, SUBJECT.format(name), self.lifetime, sid=token_id, scope=granted, client_id=name
        )
        return Token(
            access_token=access_token,
            token_type="bearer",  # noqa: S106 - the type, not a token
            expires_in=int(self.lifetime.total_seconds()),
            scope=granted,
        )
