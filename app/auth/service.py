"""Logging in, staying logged in and logging out: passwords in, tokens out."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import ColumnElement, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.models import LoginSession
from app.auth.schemas import Token
from app.db import Database, again_after_deadlock, now
from app.errors import OAuthError, TooManyRequests
from app.limits import Client, Limits
from app.logs import security_event
from app.security import ACCESS, REFRESH, Claims, InvalidTokenError, Passwords, Tokens
from app.users.models import User
from app.users.service import name_key

# Also below the 2^53 that a JavaScript client can hold.
SESSION_IDS = 2**53 - 1
MAX_SESSIONS = 100
# A client that lost the answer to a refresh asks again within this time, and is no thief.
RETRY_WITHIN = timedelta(seconds=10)

ACCOUNT = select(User.id, User.hashed_password, User.is_active)
BY_USERNAME = ACCOUNT.where(User.username_key == bindparam("key"))
BY_EMAIL = ACCOUNT.where(User.email_key == bindparam("key"))


class WrongCredentials(OAuthError):
    """The name is unknown, the password wrong, or the user disabled: which of them, nobody is told."""

    status = 401
    error = "invalid_grant"
    detail = "Incorrect username or password"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InvalidRefreshToken(OAuthError):
    """The refresh token is forged, expired or spent, or its session has ended."""

    error = "invalid_grant"
    detail = "The refresh token is invalid, expired or revoked"


class Lifetimes(Struct, frozen=True):
    """How long tokens and sessions last."""

    access: timedelta
    """Of an access token."""
    idle: timedelta
    """Of a session that nobody refreshes."""
    absolute: timedelta
    """Of any session."""


class Account(Struct, frozen=True):
    """What a login checks."""

    id: int
    hashed_password: str
    is_active: bool


class AuthService:
    """Opens, renews and ends sessions; it opens its own transactions, since no hash may be computed inside one."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        tokens: Tokens,
        limits: Limits,
        lifetimes: Lifetimes,
        count_login: Callable[[str], None],
    ) -> None:
        """`count_login` is told how each login went: `success`, `failure` or `limited`."""
        self.database = database
        self.passwords = passwords
        self.tokens = tokens
        self.limits = limits
        self.lifetimes = lifetimes
        self.count_login = count_login

    async def login(self, name: str, password: str, client: Client) -> Token:
        """Open a session for whoever knows the password.

        Raises WrongCredentials, after one hash in any case, and TooManyRequests.
        """
        account = await self.find(name)

        async def verify() -> bool:
            matches = await self.passwords.verify(account.hashed_password if account else None, password)
            return matches and account is not None and account.is_active

        # By name and by address, guesses at one account are counted together.
        counted = str(account.id) if account else name_key(name)
        try:
            matches = await self.limits.guess(verify, account=counted, network=client.network)
        except TooManyRequests:
            self.count_login("limited")
            security_event("login_limited", user_id=account.id if account else None, address=client.address)
            raise
        self.count_login("success" if matches else "failure")
        if not matches or account is None:
            raise refused(account.id if account else None, client)
        hashed = account.hashed_password
        if self.passwords.is_outdated(hashed):
            hashed = await self.rehash(account, password)
        return await self.open_session(account.id, client, hashed_password=hashed)

    async def find(self, name: str) -> Account | None:
        """The account with that username or e-mail address, in any case; no username has an @."""
        statement = BY_EMAIL if "@" in name else BY_USERNAME
        rows = await self.database.fetch(statement, {"key": name_key(name)})
        return Account(*rows[0]) if rows else None

    async def rehash(self, account: Account, password: str) -> str:
        """The password's hash with today's parameters; stored, unless the password has been changed meanwhile."""
        hashed = await self.passwords.hash(password)
        unchanged = (User.id == account.id) & (User.hashed_password == account.hashed_password)
        async with self.database.transaction() as session:
            await session.execute(update(User).where(unchanged).values(hashed_password=hashed))
        return hashed

    @again_after_deadlock
    async def open_session(self, user_id: int, client: Client, *, hashed_password: str | None = None) -> Token:
        """A new session and its tokens; the oldest session goes when there are too many.

        Raises WrongCredentials when the user is gone or disabled by now, or has another password than the one with that
        hash.
        """
        session_id = secrets.randbelow(SESSION_IDS) + 1
        moment = now()
        expires_at = self.expiry(moment, moment)
        opened = insert(LoginSession).values(
            id=session_id,
            user_id=user_id,
            device=client.device,
            address=client.address,
            created_at=moment,
            last_used_at=moment,
            refreshed_at=moment,
            expires_at=expires_at,
        )
        newest = select(LoginSession.id).where(LoginSession.user_id == user_id)
        kept = newest.order_by(LoginSession.created_at.desc(), LoginSession.id).limit(MAX_SESSIONS)
        # Logins of one user come one after the other, so that each sees the sessions that the others have opened; and
        # none outlives a new password, which ends the sessions that it finds.
        owner = select(User.id).where(User.id == user_id, User.is_active).with_for_update(key_share=True)
        if hashed_password is not None:
            owner = owner.where(User.hashed_password == hashed_password)
        async with self.database.transaction() as session:
            if not (await session.execute(owner)).first():
                raise refused(user_id, client)
            await session.execute(opened)
            surplus = (LoginSession.user_id == user_id) & LoginSession.id.not_in(kept)
            await session.execute(delete(LoginSession).where(surplus))
        security_event("login", user_id=user_id, session_id=session_id, address=client.address)
        return self.pair(user_id, session_id, 0, expires_at)

    def expiry(self, created_at: datetime, refreshed_at: datetime) -> datetime:
        """When a session ends by itself: unused for too long, or too old."""
        return min(refreshed_at + self.lifetimes.idle, created_at + self.lifetimes.absolute)

    def pair(self, user_id: int, session_id: int, generation: int, expires_at: datetime) -> Token:
        """An access token, and the refresh token of one generation of a session."""
        rest = expires_at - now()
        access = min(self.lifetimes.access, rest)
        return Token(
            access_token=self.tokens.issue(ACCESS, user_id, access, sid=session_id),
            token_type="bearer",  # noqa: S106 - the type, not a token
            expires_in=int(access.total_seconds()),
            refresh_token=self.tokens.issue(REFRESH, user_id, rest, sid=session_id, gen=generation),
        )

    @again_after_deadlock
    async def refresh(self, refresh_token: str, client: Client) -> Token:
        """The next pair of tokens. Raises InvalidRefreshToken; a token that was spent before ends its session."""
        try:
            claims = self.tokens.read(REFRESH, refresh_token)
        except InvalidTokenError:
            raise InvalidRefreshToken from None
        async with self.database.transaction() as session:
            token = await self.rotate(session, claims) or await self.repeat(session, claims)
            ended = token is None and await end_sessions(session, owned(claims))
        # The ending is committed by now, although the answer is an error.
        if token is None:
            event = "refresh_token_reused" if ended else "refresh_failed"
            security_event(event, user_id=claims.user_id, session_id=claims.sid, address=client.address)
            raise InvalidRefreshToken
        return token

    async def rotate(self, session: AsyncSession, claims: Claims) -> Token | None:
        """Move the session on from the token's generation: of many at once, one UPDATE finds it there still."""
        current = owned(claims) & (LoginSession.generation == claims.gen)
        row = (await session.execute(select(LoginSession.created_at).where(current))).one_or_none()
        if row is None:
            return None
        moment = now()
        expires_at = self.expiry(row.created_at, moment)
        moved = await session.execute(
            update(LoginSession)
            .where(current)
            .values(generation=claims.gen + 1, refreshed_at=moment, last_used_at=moment, expires_at=expires_at)
            .returning(LoginSession.id)
        )
        return self.pair(claims.user_id, claims.sid, claims.gen + 1, expires_at) if moved.first() else None

    async def repeat(self, session: AsyncSession, claims: Claims) -> Token | None:
        """The successor again, for the immediate predecessor that comes once more within ten seconds."""
        recent = (LoginSession.generation == claims.gen + 1) & (LoginSession.refreshed_at > now() - RETRY_WITHIN)
        row = (await session.execute(select(LoginSession.expires_at).where(owned(claims) & recent))).one_or_none()
        return self.pair(claims.user_id, claims.sid, claims.gen + 1, row.expires_at) if row else None

    async def revoke(self, token: str, client: Client) -> None:
        """End the session of an access or a refresh token, also of one that has expired; others are ignored."""
        for kind in (ACCESS, REFRESH):
            try:
                claims = self.tokens.read(kind, token, expired_too=True)
            except InvalidTokenError:
                continue
            async with self.database.transaction() as session:
                named = (LoginSession.id == claims.sid) & (LoginSession.user_id == claims.user_id)
                ended = await end_sessions(session, named)
            if ended:
                security_event("logout", user_id=claims.user_id, session_id=claims.sid, address=client.address)


def refused(user_id: int | None, client: Client) -> WrongCredentials:
    """The refusal of a login, which is logged."""
    security_event("login_failed", user_id=user_id, address=client.address)
    return WrongCredentials()


def owned(claims: Claims) -> ColumnElement[bool]:
    """That a row is the session of these claims, has not ended, and its user is active."""
    active = select(User.id).where(User.id == claims.user_id, User.is_active).scalar_subquery()
    return (LoginSession.id == claims.sid) & (LoginSession.user_id == active) & (LoginSession.expires_at > now())


async def end_sessions(session: AsyncSession, which: ColumnElement[bool]) -> int:
    """End these sessions, with all their tokens, in the caller's transaction; how many there were."""
    ended = await session.execute(delete(LoginSession).where(which).returning(LoginSession.id))
    return len(ended.all())
