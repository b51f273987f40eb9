"""The rules of sessions: logins, refresh tokens and their rotation, and logouts."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from msgspec import UNSET, Struct, field, structs

from app.auth.repository import CredentialRepository, Repeated, SessionRepository, StoredCredentials
from app.auth.schemas import Token
from app.auth.scopes import InvalidScope, narrow, read_scope
from app.auth.sessions import Lifetimes
from app.auth.sign_in import PasswordSignIn
from app.database.models import now
from app.database.sessions import Transaction, retry_on_deadlock
from app.errors import OAuthError
from app.security.applications import Application, Applications
from app.security.events import Events, Ids
from app.security.limits import Client
from app.security.tokens import ACCESS, REFRESH, Claims, InvalidTokenError, Tokens

# The largest integer that JavaScript clients can hold exactly.
MAX_SESSION_ID = 2**53 - 1
MAX_SESSIONS = 100
# A client that lost the answer to a refresh asks again within this time, and is no thief; it may ask a few times at
# once. Whoever goes on asking by a token that was spent gets nothing more.
RETRY_WITHIN = timedelta(seconds=10)
MOST_REPEATS = 12


class InvalidRefreshToken(OAuthError):
    """The refresh token is forged, expired or spent, or its session has ended."""

    error = "invalid_grant"
    detail = "The refresh token is invalid, expired or revoked"


class InvalidClient(OAuthError):
    """The application is unknown, or its secret is wrong or missing (RFC 6749, section 5.2)."""

    status = 401
    error = "invalid_client"
    detail = "The client is unknown, or its secret is wrong"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Basic realm="token"'})


class UnauthorizedClient(OAuthError):
    """The application may not get tokens in this way, or not end them."""

    error = "unauthorized_client"
    detail = "The client may not do this"


class NewSession(Struct, frozen=True, kw_only=True):
    """A session that is about to be opened, of a person's own or of an application's."""

    id: int = field(default_factory=lambda: secrets.randbelow(MAX_SESSION_ID) + 1)
    user_id: int
    scope: str | None
    amr: str
    authenticated_at: datetime
    application: Application | None = None
    grant_id: int | None = None


Proof = Callable[[Transaction], Awaitable[bool]]
"""Spends, in the transaction that opens a session, what works once; returns False when it doesn't stand any more."""


class AuthService:
    """The service that opens, refreshes and ends sessions; its transactions are its own, since none may span a hash."""

    def __init__(
        self,
        credentials: CredentialRepository,
        sessions: SessionRepository,
        sign_in: PasswordSignIn,
        tokens: Tokens,
        lifetimes: Lifetimes,
        applications: Applications,
        events: Events,
    ) -> None:
        self.database = sessions.database
        self.credentials = credentials
        self.sessions = sessions
        self.sign_in = sign_in
        self.tokens = tokens
        self.lifetimes = lifetimes
        self.scopes = applications.scopes
        self.applications = applications
        self.events = events

    async def login(
        self,
        name: str,
        password: str,
        client: Client,
        scope: str | None = None,
        application: Application | None = None,
        *,
        otp: str | None = None,
    ) -> Token:
        """Open a session by a username or e-mail address, the password and, with a second factor, a code.

        Return its tokens. With a scope, the session may do no more than that. Raise InvalidScope, UnauthorizedClient,
        TooManyRequests, WrongCredentials, which takes one hash for unknown names too, and MfaRequired.
        """
        scope = self.scope_of_login(scope, application)
        account, amr = await self.sign_in.check(name, password, otp, client)
        return await self.open_proved(account, amr, client, scope, application)

    async def open_proved(
        self,
        account: StoredCredentials,
        amr: str,
        client: Client,
        scope: str | None = None,
        application: Application | None = None,
    ) -> Token:
        """Open a session for whoever has proved to own an account, by the methods `amr`.

        Raise WrongCredentials when its password or its second factor has changed since.
        """
        return await self.open_session(
            account.id,
            client,
            hashed_password=account.hashed_password,
            second_factor=account.second_factor,
            scope=scope,
            amr=amr,
            application=application,
        )

    def scope_of_login(self, asked: str | None, application: Application | None) -> str | None:
        """Return the scopes of a session that a person opens by credentials of their own; None for everything.

        Only the operator's own applications are told such credentials, and they get no more than their scopes.
        Raise InvalidScope and UnauthorizedClient.
        """
        scope = read_scope(asked, self.scopes)
        if application is None:
            return scope
        if not application.first_party:
            raise UnauthorizedClient
        return narrow(application.scope, scope)

    @retry_on_deadlock
    async def open_session(
        self,
        user_id: int,
        client: Client,
        *,
        hashed_password: str | None = None,
        second_factor: bool | None = None,
        scope: str | None = None,
        amr: str = "pwd",
        application: Application | None = None,
        proof: Proof | None = None,
    ) -> Token:
        """Open a session and return its tokens; end the oldest session when there are more than MAX_SESSIONS.

        `amr` says by which methods the user has just signed in (RFC 8176). Raise WrongCredentials when the user is gone
        or disabled, has another hash or `second_factor` by now, or when the `proof` doesn't stand.
        """
        session = NewSession(user_id=user_id, scope=scope, amr=amr, authenticated_at=now(), application=application)
        async with self.database.transaction() as transaction:
            # The lock makes the logins of one user take turns, so that each sees the sessions that the others have
            # opened. It also keeps a login from adding a session while a new password ends all sessions.
            locked = self.credentials.lock_active(transaction, user_id, hashed_password, second_factor=second_factor)
            if await locked and (proof is None or await proof(transaction)):
                return await self.open_in(transaction, await self.with_grant(transaction, session, client), client)
        raise await self.sign_in.refuse(user_id, client)

    async def with_grant(self, transaction: Transaction, session: NewSession, client: Client) -> NewSession:
        """Return a session with the grant that its application gets by it, if it is one of an application."""
        if session.application is None:
            return session
        scope = session.scope or ""
        grant_id = await self.applications.open_grant(
            transaction, session.user_id, session.id, client, session.application, scope
        )
        return structs.replace(session, grant_id=grant_id)

    async def open_in(self, transaction: Transaction, session: NewSession, client: Client) -> Token:
        """Open a session in a transaction that has locked its user, and return its tokens."""
        moment, application = now(), session.application
        expires_at = self.lifetimes.end(moment, moment)
        if application and not refreshes(session.scope, application):
            expires_at = moment + self.lifetimes.access
        columns: dict[str, object] = {
            "id": session.id,
            "user_id": session.user_id,
            "device": client.device,
            "address": client.address,
            "scope": session.scope,
            "client_id": application.client_id if application else None,
            "grant_id": session.grant_id,
            "amr": session.amr,
            "authenticated_at": session.authenticated_at,
            **dict.fromkeys(("created_at", "last_used_at", "refreshed_at"), moment),
            "expires_at": expires_at,
        }
        await self.sessions.open(transaction, columns, max_sessions=MAX_SESSIONS)
        ids = Ids(session.user_id, session.user_id, session.id, application.client_id if application else None)
        await self.events.record_of(transaction, "login", client, ids, {"amr": session.amr})
        return self.issue_tokens(session.user_id, session.id, 0, expires_at, session.scope, application)

    def issue_tokens(
        self,
        user_id: int,
        session_id: int,
        generation: int,
        expires_at: datetime,
        scope: str | None,
        application: Application | None,
        kept: str | None = None,
    ) -> Token:
        """Return an access token of a scope, and the refresh token of a generation; neither outlives the session.

        `kept` are the scopes of the session, where they are more. An application gets a refresh token for
        `offline_access` only.
        """
        remaining = expires_at - now()
        access, client_id = min(self.lifetimes.access, remaining), application.client_id if application else ""
        token = Token(
            access_token=self.tokens.issue(
                ACCESS, user_id, access, sid=session_id, scope=scope or "", client_id=client_id
            ),
            token_type="bearer",  # noqa: S106 - the type, not a token
            expires_in=int(access.total_seconds()),
            scope=scope or UNSET,
        )
        if application is None or refreshes(kept or scope, application):
            token.refresh_token = self.tokens.issue(
                REFRESH, user_id, remaining, sid=session_id, gen=generation, client_id=client_id
            )
        return token

    @retry_on_deadlock
    async def refresh(
        self, refresh_token: str, client: Client, scope: str | None = None, application: Application | None = None
    ) -> Token:
        """Return the next pair of tokens, whose access token has the scope, or all that the session has.

        Raise InvalidScope, which spends nothing, and InvalidRefreshToken. A token that was used before ends its
        session. That of an application is good for that alone: with another's, nothing is spent and nothing ends.
        """
        asked = read_scope(scope, self.scopes)
        try:
            claims = self.tokens.read(REFRESH, refresh_token)
        except InvalidTokenError:
            raise InvalidRefreshToken from None
        application = check_holder(claims, application)
        ids = Ids(claims.user_id, session_id=claims.sid, client_id=claims.client_id or None)
        async with self.database.transaction() as transaction:
            token = await self.rotate(transaction, claims, asked, application)
            repeated = None if token else await self.repeat(transaction, claims)
            ended = not (token or repeated) and await self.sessions.end_live(transaction, claims.sid, claims.user_id)
            if ended:
                await self.events.record_of(transaction, "refresh_token_reused", client, ids)
        # What was counted or ended is committed by now, although the answer may be an error.
        if token:
            return token
        if not ended:
            await self.events.record_alone_of("refresh_repeated" if repeated else "refresh_failed", client, ids)
        if repeated and repeated.times <= MOST_REPEATS:
            kept = scope_left(application, repeated.scope)
            return self.next_tokens(claims, repeated.expires_at, narrow(kept, asked), application, kept)
        raise InvalidRefreshToken

    async def rotate(
        self, transaction: Transaction, claims: Claims, asked: str | None, application: Application | None
    ) -> Token | None:
        """Return the tokens of the session's next generation; None when the token isn't of the current generation."""
        session = (claims.sid, claims.user_id, claims.gen)
        current = await self.sessions.current(transaction, *session)
        if current is None:
            return None
        kept = scope_left(application, current.scope)
        granted = narrow(kept, asked)
        moment = now()
        expires_at = self.lifetimes.end(current.created_at, moment)
        if application and not refreshes(kept, application):
            expires_at = min(expires_at, moment + self.lifetimes.access)
        if not await self.sessions.rotate(transaction, *session, moment=moment, expires_at=expires_at):
            return None
        return self.next_tokens(claims, expires_at, granted, application, kept)

    def next_tokens(
        self,
        claims: Claims,
        expires_at: datetime,
        scope: str | None,
        application: Application | None,
        kept: str | None,
    ) -> Token:
        """Return the tokens of the generation after that of a refresh token."""
        return self.issue_tokens(claims.user_id, claims.sid, claims.gen + 1, expires_at, scope, application, kept)

    async def repeat(self, transaction: Transaction, claims: Claims) -> Repeated | None:
        """Count a repeat of the session's last refresh, by the immediate predecessor within ten seconds."""
        session = (claims.sid, claims.user_id, claims.gen)
        return await self.sessions.repeat(transaction, *session, since=now() - RETRY_WITHIN)

    async def revoke(self, token: str, client: Client, application: Application | None = None) -> None:
        """End the session of an access or refresh token, even if it has expired (RFC 7009); ignore other tokens.

        An application ends its own tokens only, and nobody else does. Raise InvalidClient and UnauthorizedClient.
        """
        try:
            claims = await self.read_any(token)
        except InvalidTokenError:
            return
        if claims.client_id and application is None:
            raise InvalidClient
        if claims.client_id != (application.client_id if application else ""):
            raise UnauthorizedClient
        user_id = None if claims.is_applications else claims.user_id
        ids = Ids(user_id, user_id, claims.sid, claims.client_id or None)
        async with self.database.transaction() as transaction:
            if await self.end(transaction, claims):
                await self.events.record_of(transaction, "logout", client, ids)

    async def read_any(self, token: str) -> Claims:
        """Return the claims of an access or refresh token, even of an expired one. Raise InvalidTokenError."""
        try:
            return self.tokens.read(REFRESH, token, expired_too=True)
        except InvalidTokenError:
            return await self.tokens.read_access(token, expired_too=True)

    async def end(self, transaction: Transaction, claims: Claims) -> bool:
        """End the session of a token, or an application's own token; return False when it has ended."""
        if claims.is_applications:
            return await self.applications.end_token(transaction, claims.sid)
        return await self.sessions.end(transaction, claims.sid, claims.user_id)


def check_holder(claims: Claims, application: Application | None) -> Application | None:
    """Return the application to which a refresh token belongs; None for that of a person's own session.

    Raise InvalidClient when none that is known sends it, InvalidRefreshToken when another does, and UnauthorizedClient
    when it may refresh nothing any more.
    """
    if not claims.client_id:
        return None
    if application is None:
        raise InvalidClient
    if application.client_id != claims.client_id:
        raise InvalidRefreshToken
    if not application.may("refresh_token"):
        raise UnauthorizedClient
    return application


def refreshes(scope: str | None, application: Application) -> bool:
    """Return whether an application's session of a scope is refreshed."""
    return "offline_access" in (scope or "").split() and application.may("refresh_token")


def scope_left(application: Application | None, granted: str | None) -> str | None:
    """Return the scopes of a session without those that its application has lost since; None for everything.

    Raise InvalidScope when none is left.
    """
    if application is None or granted is None:
        return granted
    allowed = application.scope.split()
    left = [scope for scope in granted.split() if scope in allowed]
    if not left:
        raise InvalidScope
    return " ".join(left)
