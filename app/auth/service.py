"""Logging in: passwords in, tokens out."""

import secrets
from datetime import timedelta

from msgspec import Struct
from sqlalchemy import bindparam, select, update

from app.auth.models import LoginSession
from app.auth.schemas import Token
from app.db import Database, now
from app.errors import OAuthError
from app.security import ACCESS, Passwords, Tokens
from app.users.models import User
from app.users.service import name_key

# Also below the 2^53 that a JavaScript client can hold.
SESSION_IDS = 2**53 - 1

BY_USERNAME = select(User.id, User.hashed_password, User.is_active).where(User.username_key == bindparam("key"))
BY_EMAIL = select(User.id, User.hashed_password, User.is_active).where(User.email_key == bindparam("key"))


class WrongCredentials(OAuthError):
    """The name is unknown, the password wrong, or the user disabled: which of them, nobody is told."""

    status = 401
    error = "invalid_grant"
    detail = "Incorrect username or password"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class Account(Struct, frozen=True):
    """What a login checks."""

    id: int
    hashed_password: str
    is_active: bool


class AuthService:
    """Checks passwords and opens sessions; it opens its own transactions, since no hash may be computed inside one."""

    def __init__(self, database: Database, passwords: Passwords, tokens: Tokens, lifetime: timedelta) -> None:
        """`lifetime` is that of an access token, and of the session that it names."""
        self.database = database
        self.passwords = passwords
        self.tokens = tokens
        self.lifetime = lifetime

    async def login(self, name: str, password: str) -> Token:
        """Open a session for whoever knows the password. Raises WrongCredentials, after one hash in any case."""
        account = await self.find(name)
        matches = await self.passwords.verify(account.hashed_password if account else None, password)
        if account is None or not account.is_active or not matches:
            raise WrongCredentials
        if self.passwords.is_outdated(account.hashed_password):
            await self.rehash(account, password)
        return await self.open_session(account.id)

    async def find(self, name: str) -> Account | None:
        """The account with that username or e-mail address, in any case; no username has an @."""
        statement = BY_EMAIL if "@" in name else BY_USERNAME
        rows = await self.database.fetch(statement, {"key": name_key(name)})
        return Account(*rows[0]) if rows else None

    async def rehash(self, account: Account, password: str) -> None:
        """Store the password's hash with today's parameters, unless the password has been changed meanwhile."""
        hashed = await self.passwords.hash(password)
        unchanged = (User.id == account.id) & (User.hashed_password == account.hashed_password)
        async with self.database.transaction() as session:
            await session.execute(update(User).where(unchanged).values(hashed_password=hashed))

    async def open_session(self, user_id: int) -> Token:
        """A new session and its access token."""
        session_id = secrets.randbelow(SESSION_IDS) + 1
        async with self.database.transaction() as session:
            session.add(LoginSession(id=session_id, user_id=user_id, expires_at=now() + self.lifetime))
        token = self.tokens.issue(ACCESS, user_id=user_id, session_id=session_id, lifetime=self.lifetime)
        return Token(access_token=token, token_type="bearer", expires_in=int(self.lifetime.total_seconds()))  # noqa: S106
