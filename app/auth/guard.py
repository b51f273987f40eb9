"""The guard on every route that isn't marked public: Litestar's JWT OAuth2 guard, with its holes closed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTCookieAuthenticationMiddleware, OAuth2PasswordBearerAuth
from msgspec import Struct
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import SQLAlchemyError

from app.auth.models import LoginSession
from app.db import Database, now
from app.errors import Forbidden, Unauthorized
from app.limits import calling_client
from app.security import ACCESS, Claims, InvalidTokenError, Tokens
from app.users.models import User
from app.users.service import Caller

log = structlog.get_logger()
PUBLIC = {"exclude_from_auth": True}
"""The opt of a handler that answers whoever asks."""


class SignedIn(Struct, frozen=True):
    """Who makes the request, as one query found them."""

    id: int
    username: str
    email: str
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime
    session_id: int
    last_used_at: datetime
    wrote_at: datetime | None


SignedInRequest = Request[SignedIn, Claims, Any]

# Built once: one query for each request checks the session and its user together.
SIGNED_IN = (
    select(
        User.id,
        User.username,
        User.email,
        User.is_active,
        User.is_superuser,
        User.email_verified,
        User.created_at,
        LoginSession.id,
        LoginSession.last_used_at,
        LoginSession.wrote_at,
    )
    .join(LoginSession, LoginSession.user_id == User.id)
    .where(
        LoginSession.id == bindparam("session_id"),
        LoginSession.expires_at > bindparam("now"),
        User.id == bindparam("user_id"),
        User.is_active,
    )
)
USED = (
    update(LoginSession)
    .where(
        LoginSession.id == bindparam("session_id"),
        LoginSession.user_id == bindparam("owner"),
        LoginSession.last_used_at <= bindparam("minute_ago"),
    )
    .values(last_used_at=bindparam("now"))
    .returning(LoginSession.id)
)
MINUTE = timedelta(minutes=1)


class NotAuthenticated(Unauthorized):
    """No bearer token came: nothing at all, or another scheme (RFC 6750, section 3.1)."""

    detail = "Not authenticated"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InvalidCredentials(Unauthorized):
    """A bearer token came that is malformed, forged, expired or revoked."""

    detail = "Could not validate credentials"

    def __init__(self) -> None:
        challenge = 'Bearer error="invalid_token", error_description="The access token is invalid, expired or revoked"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class SuperuserOnly(Forbidden):
    """The caller has no superuser's rights."""

    detail = "Only superusers may do this"


def require_superuser(request: SignedInRequest) -> None:
    """Raises SuperuserOnly; the rights are those of this moment, since the guard has just read them."""
    if not request.user.is_superuser:
        raise SuperuserOnly


def caller(request: SignedInRequest) -> Caller:
    """Who makes the request, for what services check and log."""
    return Caller(request.user.id, request.user.session_id, calling_client(request))


class Guard(JWTCookieAuthenticationMiddleware):
    """Takes a bearer token from the Authorization header and nothing else: no other scheme and no cookie."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Who makes the request. Raises NotAuthenticated and InvalidCredentials."""
        tokens: Tokens = connection.app.state.tokens
        try:
            claims = tokens.read(ACCESS, bearer_token(connection.headers.getall("authorization", [])))
        except InvalidTokenError:
            raise InvalidCredentials from None
        user = await signed_in(claims, connection)
        if user is None:
            raise InvalidCredentials
        return AuthenticationResult(user=user, auth=claims)


def bearer_token(authorization: Sequence[str]) -> str:
    """The token of the one Authorization header. Raises NotAuthenticated, and InvalidCredentials for two of them."""
    if not authorization:
        raise NotAuthenticated
    scheme, _, token = authorization[0].partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated
    if len(authorization) > 1:
        raise InvalidCredentials
    return token.strip(" ")


async def signed_in(claims: Claims, connection: ASGIConnection[Any, Any, Any, Any]) -> SignedIn | None:
    """The user of a token, when its session has not ended and the user is active."""
    database: Database = connection.app.state.database
    moment = now()
    rows = await database.fetch_prepared(
        SIGNED_IN, {"session_id": claims.sid, "user_id": claims.user_id, "now": moment}
    )
    if not rows:
        return None
    user = SignedIn(*rows[0])
    if user.last_used_at <= moment - MINUTE:
        await note_use(database, claims, moment)
    return user


async def note_use(database: Database, claims: Claims, moment: datetime) -> None:
    """Write down that the session is in use, at most once a minute; a request never fails for it."""
    try:
        session = {"session_id": claims.sid, "owner": claims.user_id}
        await database.fetch(USED, {**session, "now": moment, "minute_ago": moment - MINUTE})
    except (SQLAlchemyError, OSError) as error:
        log.warning("session use not noted", cause=type(error).__name__)


def create_guard(secret: str, algorithm: str) -> OAuth2PasswordBearerAuth[SignedIn, Any]:
    """The guard and its OpenAPI security scheme; HEAD is guarded too, unlike the framework's default."""
    return OAuth2PasswordBearerAuth(
        token_secret=secret,
        token_url="token",  # noqa: S106 - an address, relative to the document
        retrieve_user_handler=signed_in,
        authentication_middleware_class=Guard,
        algorithm=algorithm,
        exclude_http_methods=["OPTIONS"],
        openapi_security_scheme_name="OAuth2",
        description="Sign in with a username or an e-mail address, and the password.",
    )
