"""The rules of sessions: logins, refresh tokens and their rotation, and logouts."""

import secrets
from collections.abc import Awaitable, Callable, Container
from datetime import datetime, timedelta

from msgspec import UNSET

from app.auth.repository import CredentialRepository, Repeated, SessionRepository
from app.auth.schemas import Token
from app.auth.scopes import narrow, read_scope
from app.auth.sessions import Lifetimes
from app.auth.sign_in import PasswordSignIn
from app.database.models import now
from app.database.sessions import Transaction, retry_on_deadlock
from app.errors import OAuthError
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
        scopes: Container[str],
        events: Events,
    ) -> None:
        self.database = sessions.database
        self.credentials = credentials
        self.sessions = sessions
        self.sign_in = sign_in
        self.tokens = tokens
        self.lifetimes = lifetimes
        self.scopes = scopes
        self.events = events

    async def login(
        self, name: str, password: str, client: Client, scope: str | None = None, *, otp: str | None = None
    ) -> Token:
        """Open a session by a username or e-mail address, the password and, with a second factor, a code.

        Return its tokens. With a scope, the session may do no more than that. Raise InvalidScope, TooManyRequests,
        WrongCredentials, which takes one hash for unknown names too, and MfaRequired.
        """
        scope = read_scope(scope, self.scopes)
        account, amr = await self.sign_in.check(name, password, otp, client)
        hashed, second_factor = account.hashed_password, account.second_factor
        return await self.open_session(
            account.id, client, hashed_password=hashed, second_factor=second_factor, scope=scope, amr=amr
        )

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
        proof: Proof | None = None,
    ) -> Token:
        """Open a session and return its tokens; end the oldest session when there are more than MAX_SESSIONS.

        `amr` says by which methods the user has just signed in (RFC 8176). Raise WrongCredentials when the user is gone
        or disabled, has another hash or `second_factor` by now, or when the `proof` doesn't stand.
        """
        session_id, moment = secrets.randbelow(MAX_SESSION_ID) + 1, now()
        columns = session_columns(client, moment) | {"id": session_id, "user_id": user_id, "scope": scope, "amr": amr}
        columns["expires_at"] = expires_at = self.lifetimes.end(moment, moment)
        async with self.database.transaction() as transaction:
            # The lock makes the logins of one user take turns, so that each sees the sessions that the others have
            # opened. It also keeps a login from adding a session while a new password ends all sessions.
            locked = self.credentials.lock_active(transaction, user_id, hashed_password, second_factor=second_factor)
            if is_open := await locked and (proof is None or await proof(transaction)):
                await self.sessions.open(transaction, columns, max_sessions=MAX_SESSIONS)
                ids = Ids(user_id, user_id, session_id)
                await self.events.record_of(transaction, "login", client, ids, {"amr": amr})
        if not is_open:
            raise await self.sign_in.refuse(user_id, client)
        return self.issue_tokens(user_id, session_id, 0, expires_at, scope)

    def issue_tokens(
        self, user_id: int, session_id: int, generation: int, expires_at: datetime, scope: str | None
    ) -> Token:
        """Return an access token of a scope, and the refresh token of a generation; neither outlives the session."""
        remaining = expires_at - now()
        access = min(self.lifetimes.access, remaining)
        return Token(
            access_token=self.tokens.issue(ACCESS, user_id, access, sid=session_id, scope=scope or ""),
            token_type="bearer",  # noqa: S106 - the type, not a token
            expires_in=int(access.total_seconds()),
            refresh_token=self.tokens.issue(REFRESH, user_id, remaining, sid=session_id, gen=generation),
            scope=scope or UNSET,
        )

    @retry_on_deadlock
    async def refresh(self, refresh_token: str, client: Client, scope: str | None = None) -> Token:
        """Return the next pair of tokens, whose access token has the scope, or all that the session has.

        Raise InvalidScope, which spends nothing, and InvalidRefreshToken. A token that was used
        before ends its session.
        """
        asked = read_scope(scope, self.scopes)
        try:
            claims = self.tokens.read(REFRESH, refresh_token)
        except InvalidTokenError:
            raise InvalidRefreshToken from None
        ids = Ids(claims.user_id, session_id=claims.sid)
        async with self.database.transaction() as transaction:
            token = await self.rotate(transaction, claims, asked)
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
            granted = narrow(repeated.scope, asked)
            return self.issue_tokens(claims.user_id, claims.sid, claims.gen + 1, repeated.expires_at, granted)
        raise InvalidRefreshToken

    async def rotate(self, transaction: Transaction, claims: Claims, asked: str | None) -> Token | None:
        """Return the tokens of the session's next generation; None when the token isn't of the current generation."""
        session = (claims.sid, claims.user_id, claims.gen)
        current = await self.sessions.current(transaction, *session)
        if current is None:
            return None
        granted = narrow(current.scope, asked)
        moment = now()
        expires_at = self.lifetimes.end(current.created_at, moment)
        if not await self.sessions.rotate(transaction, *session, moment=moment, expires_at=expires_at):
            return None
        return self.issue_tokens(claims.user_id, claims.sid, claims.gen + 1, expires_at, granted)

    async def repeat(self, transaction: Transaction, claims: Claims) -> Repeated | None:
        """Count a repeat of the session's last refresh, by the immediate predecessor within ten seconds."""
        session = (claims.sid, claims.user_id, claims.gen)
        return await self.sessions.repeat(transaction, *session, since=now() - RETRY_WITHIN)

    async def revoke(self, token: str, client: Client) -> None:
        """End the session of an access or refresh token, even if it has expired (RFC 7009); ignore other tokens."""
        try:
            claims = await self.read_any(token)
        except InvalidTokenError:
            return
        ids = Ids(claims.user_id, claims.user_id, claims.sid)
        async with self.database.transaction() as transaction:
            if await self.sessions.end(transaction, claims.sid, claims.user_id):
                await self.events.record_of(transaction, "logout", client, ids)

    async def read_any(self, token: str) -> Claims:
        """Return the claims of an access or refresh token, even of an expired one. Raise InvalidTokenError."""
        try:
            return self.tokens.read(REFRESH, token, expired_too=True)
        except InvalidTokenError:
            return await self.tokens.read_access(token, expired_too=True)


def session_columns(client: Client, moment: datetime) -> dict[str, object]:
    """Return the columns of a session that a client opens at a moment."""
    times = dict.fromkeys(("authenticated_at", "created_at", "last_used_at", "refreshed_at"), moment)
    return {"device": client.device, "address": client.address, **times}
