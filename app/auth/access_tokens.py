"""Access tokens: the JWTs that sessions are called by."""

from collections.abc import Awaitable
from datetime import datetime, timedelta

import structlog
from msgspec import structs
from sqlalchemy.exc import SQLAlchemyError

from app.auth.caller import SignedIn
from app.auth.repository import SessionRepository
from app.auth.scopes import common_scopes
from app.database.models import now
from app.security.applications import Applications
from app.security.tokens import ACCESS, Claims, Tokens

MINUTE = timedelta(minutes=1)
"""The least time between two recorded uses of one session or token: most requests write nothing."""

log = structlog.get_logger()


class AccessTokens:
    """The reader of access tokens."""

    def __init__(self, tokens: Tokens, sessions: SessionRepository, applications: Applications) -> None:
        self.tokens = tokens
        self.sessions = sessions
        self.applications = applications

    def verify(self, token: str) -> Claims:
        """Return the claims of a valid access token. Raise InvalidTokenError."""
        return self.tokens.read(ACCESS, token)

    async def signed_in(self, claims: Claims) -> SignedIn | None:
        """Return the user of a token; None when its session has ended, or the user is gone or disabled."""
        moment = now()
        if claims.is_applications:
            return await self.application(claims, moment)
        user = await self.sessions.signed_in(claims.sid, claims.user_id, moment)
        if user is None:
            return None
        if user.last_used_at <= moment - MINUTE:
            await record_use(self.sessions.touch_session(user.session_id, user.id, moment, before=moment - MINUTE))
        if claims.scope:
            user = structs.replace(user, scope=common_scopes(claims.scope, user.scope))
        return user

    async def application(self, claims: Claims, moment: datetime) -> SignedIn | None:
        """Return an application that acts for itself; None when the token has ended, or the application is gone."""
        scope = await self.applications.scope_of_token(claims.sid, claims.client_id)
        if scope is None:
            return None
        return SignedIn(
            id=0,
            username=claims.sub,
            email="",
            is_active=True,
            is_superuser=True,
            email_verified=False,
            created_at=moment,
            session_id=claims.sid,
            last_used_at=moment,
            wrote_at=None,
            scope=common_scopes(claims.scope, scope),
            client_id=claims.client_id,
        )

    async def set_last_write(self, user: SignedIn, moment: datetime) -> None:
        """Record that a session writes at a moment, unless a later write is recorded."""
        await self.sessions.set_last_write(user.session_id, user.id, moment)


async def record_use(recorded: Awaitable[None]) -> None:
    """Record that a session or a token is in use; log an error, and don't let the request fail."""
    try:
        await recorded
    except (SQLAlchemyError, OSError) as error:
        log.warning("session use not noted", cause=type(error).__name__)
