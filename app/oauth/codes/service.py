"""The rules by which an application gets tokens for an authorization code (RFC 6749, section 4.1.3; RFC 7636)."""

import hmac
import re
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256

from msgspec import Struct

from app.auth.repository import SessionRepository
from app.auth.schemas import Token
from app.auth.service import AuthService, NewSession, UnauthorizedClient
from app.database.models import now
from app.database.sessions import retry_on_deadlock
from app.errors import OAuthError
from app.oauth.clients import CODE_GRANT
from app.oauth.codes.repository import CodeRepository, StoredCode
from app.oauth.repository import GrantRepository, StoredClient
from app.security.events import Events
from app.security.id_tokens import IdTokens
from app.security.limits import Client
from app.security.random_tokens import digest

VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")


class InvalidCode(OAuthError):
    """The code is unknown, expired or used, or isn't for this application, redirect URI or verifier."""

    error = "invalid_grant"
    detail = "The code is invalid, expired or used"


class Exchange(Struct, frozen=True):
    """The parameters by which an application gets tokens for a code."""

    code: str
    redirect_uri: str
    verifier: str


class CodeService:
    """The service that gives tokens for codes."""

    def __init__(
        self,
        codes: CodeRepository,
        grants: GrantRepository,
        sessions: SessionRepository,
        auth: AuthService,
        id_tokens: IdTokens,
        events: Events,
    ) -> None:
        self.database = codes.database
        self.codes = codes
        self.grants = grants
        self.sessions = sessions
        self.auth = auth
        self.id_tokens = id_tokens
        self.events = events

    async def exchange(self, data: Exchange, application: StoredClient, client: Client) -> Token:
        """Return the tokens for a code, an ID token among them for `openid`. Raise UnauthorizedClient and InvalidCode.

        Any try by its application spends the code, so that nobody can guess a verifier. A second use ends the session
        that the first one has opened.
        """
        if not application.may(CODE_GRANT):
            raise UnauthorizedClient
        stored = await self.codes.find(digest(data.code))
        if stored is None or stored.client_row_id != application.id:
            raise InvalidCode
        opened = await self._exchange(data, stored, application, client)
        if opened is None:
            raise InvalidCode
        token, stored = opened
        if "openid" in stored.scope.split():
            token.id_token = await self.id_tokens.issue(
                application.client_id,
                stored.user_id,
                alg=application.id_token_signed_response_alg,
                nonce=stored.nonce,
                auth_time=stored.authenticated_at,
                amr=stored.amr,
                access_token=token.access_token,
                lifetime=timedelta(seconds=token.expires_in),
            )
        return token

    @retry_on_deadlock
    async def _exchange(
        self, data: Exchange, stored: StoredCode, application: StoredClient, client: Client
    ) -> tuple[Token, StoredCode] | None:
        """Spend a code and open its session; return None, and end what it got before, where it can't be spent.

        The code is read again once its person is locked: until then, they may have removed a factor.
        """
        fits = is_meant(data, stored)
        async with self.database.transaction() as transaction:
            is_active = await self.auth.credentials.lock_active(transaction, stored.user_id, None)
            if not is_active or not await self.grants.lock(transaction, stored.grant_id):
                return None
            current = await self.codes.find(digest(data.code), transaction)
            if current is None:
                return None
            session = session_of(current, application)
            until = now() + self.auth.lifetimes.absolute
            if await self.codes.spend(transaction, digest(data.code), session.id if fits else None, until):
                return (await self.auth.open_in(transaction, session, client), current) if fits else None
            ended = current.session_id
            if ended and await self.sessions.end(transaction, ended, current.user_id):
                ids = {"user_id": current.user_id, "session_id": ended}
                await self.events.record(transaction, "code_reused", client, **ids, client_id=application.client_id)
        return None


def session_of(code: StoredCode, application: StoredClient) -> NewSession:
    """Return the session that a code opens."""
    return NewSession(
        user_id=code.user_id,
        scope=code.scope,
        amr=code.amr,
        authenticated_at=code.authenticated_at,
        application=application,
        grant_id=code.grant_id,
    )


def is_meant(data: Exchange, stored: StoredCode) -> bool:
    """Return whether a code is for this redirect URI and this verifier."""
    if not VERIFIER.match(data.verifier):
        return False
    is_verifier = hmac.compare_digest(challenge_of(data.verifier), stored.challenge)
    return is_verifier and data.redirect_uri == stored.redirect_uri


def challenge_of(verifier: str) -> str:
    """Return the challenge of a verifier by the method S256 (RFC 7636, section 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
