"""The rules of sessions: logins, refresh tokens and their rotation, and logouts."""

import secrets
from collections.abc import Container
from datetime import datetime, timedelta

from msgspec import UNSET

from app.auth.repository import CredentialRepository, Repeated, SessionRepository, StoredCredentials
from app.auth.schemas import Token
from app.auth.scopes import narrow, read_scope
from app.auth.sessions import Lifetimes
from app.database.models import now
from app.database.sessions import Transaction, retry_on_deadlock
from app.errors import OAuthError, TooManyRequests
from app.security.events import Events, Ids
from app.security.limits import Client, Limits, account_of_id, account_of_name
from app.security.passwords import Passwords
from app.security.tokens import ACCESS, REFRESH, Claims, InvalidTokenError, Tokens
from app.users.models import login_key

# The largest integer that JavaScript clients can hold exactly.
MAX_SESSION_ID = 2**53 - 1
MAX_SESSIONS = 100
# A client that lost the answer to a refresh asks again within this time, and is no thief; it may ask a few times at
# once. Whoever goes on asking by a token that was spent gets nothing more.
RETRY_WITHIN = timedelta(seconds=10)
MOST_REPEATS = 12


class WrongCredentials(OAuthError):
    """The name is unknown, the password wrong, or the user disabled; the client isn't told which."""

    status = 401
    error = "invalid_grant"
    detail = "Incorrect username or password"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InvalidRefreshToken(OAuthError):
    """The refresh token is forged, expired or spent, or its session has ended."""

    error = "invalid_grant"
    detail = "The refresh token is invalid, expired or revoked"


class AuthService:
    """The service that opens, refreshes and ends sessions; its transactions are its own, since none may span a hash."""

    def __init__(
        self,
        credentials: CredentialRepository,
        sessions: SessionRepository,
        passwords: Passwords,
        tokens: Tokens,
        limits: Limits,
        lifetimes: Lifetimes,
        scopes: Container[str],
        events: Events,
    ) -> None:
        self.database = sessions.database
        self.credentials = credentials
        self.sessions = sessions
        self.passwords = passwords
        self.tokens = tokens
        self.limits = limits
        self.lifetimes = lifetimes
        self.scopes = scopes
        self.events = events

    async def login(self, name: str, password: str, client: Client, scope: str | None = None) -> Token:
        """Open a session by a username or e-mail address and the password, and return its tokens.

        With a scope, the session may do no more than that. Raise InvalidScope, TooManyRequests and WrongCredentials,
        which takes one hash for unknown names too.
        """
        scope = read_scope(scope, self.scopes)
        account = await self.credentials.by_name(name)

        async def verify() -> bool:
            matches = await self.passwords.verify(account.hashed_password if account else None, password)
            return matches and account is not None and account.is_active

        # Logins to one account count together, whether by its username or its e-mail address. A name that nobody has
        # counts apart from every account, even if it looks like an id.
        account_key = account_of_id(account.id) if account else account_of_name(login_key(name))
        try:
            matches = await self.limits.verify_within_limits(verify, account=account_key, network=client.network)
        except TooManyRequests:
            await self.events.record_alone("login_limited", client, user_id=account.id if account else None)
            raise
        if not matches or account is None:
            raise await self.refuse_login(account.id if account else None, client)
        hashed = account.hashed_password
        if self.passwords.is_outdated(hashed):
            hashed = await self.rehash(account, password, client)
        return await self.open_session(account.id, client, hashed_password=hashed, scope=scope)

    async def refuse_login(self, user_id: int | None, client: Client) -> WrongCredentials:
        """Record the refusal of a login, and return the error to raise."""
        await self.events.record_alone("login_failed", client, user_id=user_id)
        return WrongCredentials()

    async def rehash(self, account: StoredCredentials, password: str, client: Client) -> str:
        """Store the password's hash with today's parameters, and return it; or the one that another login has stored.

        Raise WrongCredentials when the password has been changed meanwhile.
        """
        hashed = await self.passwords.hash(password)
        if await self.credentials.replace_hash(account.id, account.hashed_password, hashed):
            return hashed
        current = await self.credentials.by_id(account.id)
        if current is None or not await self.passwords.verify(current.hashed_password, password):
            raise await self.refuse_login(account.id, client)
        return current.hashed_password

    @retry_on_deadlock
    async def open_session(
        self,
        user_id: int,
        client: Client,
        *,
        hashed_password: str | None = None,
        scope: str | None = None,
        amr: str = "pwd",
    ) -> Token:
        """Open a session and return its tokens; end the oldest session when there are more than MAX_SESSIONS.

        `amr` says by which methods the user has just signed in (RFC 8176). Raise WrongCredentials when the user has
        been deleted or disabled, or no longer has `hashed_password`.
        """
        session_id = secrets.randbelow(MAX_SESSION_ID) + 1
        moment = now()
        expires_at = self.lifetimes.end(moment, moment)
        columns = session_columns(client, moment) | {"id": session_id, "user_id": user_id, "expires_at": expires_at}
        columns |= {"scope": scope, "amr": amr}
        async with self.database.transaction() as transaction:
            # The lock makes the logins of one user take turns, so that each sees the sessions that the others have
            # opened. It also keeps a login from adding a session while a new password ends all sessions.
            if is_open := await self.credentials.lock_active(transaction, user_id, hashed_password):
                await self.sessions.open(transaction, columns, max_sessions=MAX_SESSIONS)
                await self.events.record_of(
                    transaction, "login", client, Ids(user_id, user_id, session_id), {"amr": amr}
                )
        if not is_open:
            raise await self.refuse_login(user_id, client)
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
