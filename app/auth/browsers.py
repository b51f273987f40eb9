"""The rules of browsers' sessions: a cookie stands for a session, in place of tokens, and only pages take it."""

import secrets

from msgspec import Struct

from app.auth.access_tokens import MINUTE, record_use
from app.auth.caller import Caller, SignedIn
from app.auth.repository import SessionRepository
from app.auth.schemas import Token
from app.auth.sessions import Lifetimes
from app.auth.sign_in import WrongCredentials
from app.database.models import now
from app.security.events import Events
from app.security.random_tokens import digest
from app.security.tokens import Tokens

COOKIE_BYTES = 32
LONGEST_COOKIE = 64


class SessionCookie(Struct, frozen=True):
    """The value of a browser's cookie, and for how many seconds the browser keeps it."""

    value: str
    max_age: int


class BrowserSessions:
    """The service that opens, finds and ends the sessions of browsers. The database has digests of cookies only."""

    def __init__(self, sessions: SessionRepository, tokens: Tokens, lifetimes: Lifetimes, events: Events) -> None:
        self.database = sessions.database
        self.sessions = sessions
        self.tokens = tokens
        self.lifetimes = lifetimes
        self.events = events

    async def begin(self, token: Token) -> SessionCookie:
        """Return a cookie for the session that a sign-in has just opened, in place of its tokens.

        So pages sign in by the same services as the API. Raise WrongCredentials when the session has ended.
        """
        claims = await self.tokens.read_access(token.access_token)
        return await self._set_cookie(claims.sid, claims.user_id)

    async def renew(self, user: SignedIn) -> SessionCookie:
        """Return another cookie for a session; the one before stands for nothing any more. Raise WrongCredentials."""
        return await self._set_cookie(user.session_id, user.id)

    async def _set_cookie(self, session_id: int, user_id: int) -> SessionCookie:
        value = secrets.token_urlsafe(COOKIE_BYTES)
        began_at = await self.sessions.set_cookie(session_id, user_id, digest(value))
        if began_at is None:
            raise WrongCredentials
        remaining = began_at + self.lifetimes.absolute - now()
        return SessionCookie(value, int(remaining.total_seconds()))

    async def signed_in(self, value: str) -> SignedIn | None:
        """Return the user and the session of a cookie; None when the session has ended, or the user isn't active.

        A browser refreshes no token, so each use puts off the end of its session; that is recorded once a minute.
        """
        if not value or len(value) > LONGEST_COOKIE:
            return None
        moment = now()
        found = await self.sessions.in_browser(digest(value), moment)
        if found is None:
            return None
        user, began_at = found
        if user.last_used_at <= moment - MINUTE:
            until = self.lifetimes.end(began_at, moment)
            await record_use(self.sessions.keep_alive(user, moment, moment - MINUTE, until))
        return user

    async def end(self, caller: Caller) -> None:
        """End a browser's session."""
        async with self.database.transaction() as transaction:
            if await self.sessions.end(transaction, caller.session_id, caller.id):
                await caller.record(self.events, transaction, "logout")
