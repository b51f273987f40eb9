"""The guard of every route that isn't public: Litestar's for OAuth2 and JWT, with stricter checks."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from litestar import Request
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.security.jwt import JWTCookieAuthenticationMiddleware, OAuth2PasswordBearerAuth
from litestar.types import OnAppInitHandler, Receive, Scope, Send
from sqlalchemy.exc import SQLAlchemyError

from app.auth.caller import Caller, SignedIn
from app.auth.repository import SessionRepository
from app.auth.scopes import scopes_of
from app.database.models import now
from app.errors import Unauthorized
from app.http.access import SECURITY_SCHEME, NotAllowedWithThisToken, check_right, check_scope, is_public
from app.http.client import calling_client
from app.security.tokens import ACCESS, Claims, InvalidTokenError, Tokens

SignedInRequest = Request[SignedIn, Claims, Any]
MINUTE = timedelta(minutes=1)
log = structlog.get_logger()


class NotAuthenticated(Unauthorized):
    """The request has no bearer token: no credentials, or those of another scheme (RFC 6750, section 3.1)."""

    detail = "Not authenticated"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InvalidCredentials(Unauthorized):
    """The request has a bearer token that is malformed, forged, expired or revoked (RFC 6750, section 3.1)."""

    detail = "Could not validate credentials"

    def __init__(self) -> None:
        challenge = 'Bearer error="invalid_token", error_description="The access token is invalid, expired or revoked"'
        super().__init__(headers={"WWW-Authenticate": challenge})


def caller(request: SignedInRequest) -> Caller:
    """Return the caller of a request, for services that check and log it."""
    return Caller(request.user.id, request.user.session_id, calling_client(request))


def require_everything(request: SignedInRequest) -> None:
    """Raise NotAllowedWithThisToken for a token of a scope, where a part of what a route does takes none."""
    if scopes_of(request.auth, request.user) is not None:
        raise NotAllowedWithThisToken


class Guard(JWTCookieAuthenticationMiddleware):
    """The guard, which takes a bearer token from the Authorization header, and no other scheme and no cookie."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raise NotAuthenticated, InvalidCredentials, and the errors of check_scope and check_right.

        A body is read after the token was verified, so that a stranger can't have one kept, and before the database is
        asked: what a session or a user loses while the body is on its way, this request has lost, too.
        """
        # Litestar's own takes a token after any scheme, or in a cookie, and sends no challenge. Not reported:
        # `authenticate_request` in litestar/security/jwt/middleware.py.
        if scope["type"] == ScopeType.HTTP and scope["method"] != "OPTIONS" and not is_public(scope["route_handler"]):
            request: SignedInRequest = Request(scope, receive)
            claims = verified_claims(request)
            if request.route_handler.parsed_data_field:
                await request.body()
            user = await signed_in(claims, request)
            if user is None:
                raise InvalidCredentials
            scopes = scopes_of(claims, user)
            if scopes is not None:
                check_scope(request.route_handler, scopes)
            check_right(request.route_handler, request.path_params, user.id, is_superuser=user.is_superuser)
            scope["user"], scope["auth"] = user, claims
        await self.app(scope, receive, send)


def verified_claims(request: SignedInRequest) -> Claims:
    """Return the claims of a request's token. Raise NotAuthenticated and InvalidCredentials."""
    tokens: Tokens = request.app.state.tokens
    try:
        return tokens.read(ACCESS, bearer_token(request.headers.getall("authorization", [])))
    except InvalidTokenError:
        raise InvalidCredentials from None


def bearer_token(authorization: Sequence[str]) -> str:
    """Return the token of the one Authorization header. Raise NotAuthenticated, and InvalidCredentials for two."""
    if not authorization:
        raise NotAuthenticated
    scheme, _, token = authorization[0].partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated
    if len(authorization) > 1:
        raise InvalidCredentials
    return token.strip(" ")


async def signed_in(claims: Claims, connection: ASGIConnection[Any, Any, Any, Any]) -> SignedIn | None:
    """Return the user of a token; None when its session has ended, or the user is gone or disabled."""
    sessions: SessionRepository = connection.app.state.sessions
    moment = now()
    user = await sessions.signed_in(claims.sid, claims.user_id, moment)
    if user and user.last_used_at <= moment - MINUTE:
        await record_use(sessions, user, moment)
    return user


async def record_use(sessions: SessionRepository, user: SignedIn, moment: datetime) -> None:
    """Record that a session is in use, at most once a minute; log an error, and don't let the request fail."""
    try:
        await sessions.touch_session(user.session_id, user.id, moment, before=moment - MINUTE)
    except (SQLAlchemyError, OSError) as error:
        log.warning("session use not noted", cause=type(error).__name__)


def create_guard(sessions: SessionRepository, secret: str, algorithm: str, scopes: dict[str, str]) -> OnAppInitHandler:
    """Return the handler that adds the guard to an application, and its security scheme to the OpenAPI document.

    `scopes` says what each scope is for.
    """
    guard = OAuth2PasswordBearerAuth[SignedIn, Any](
        token_secret=secret,
        token_url="token",  # noqa: S106 - a URL, relative to the document
        oauth_scopes=scopes,
        retrieve_user_handler=signed_in,
        authentication_middleware_class=Guard,
        algorithm=algorithm,
        # By default HEAD is let through, too: https://github.com/litestar-org/litestar/pull/2160
        exclude_http_methods=["OPTIONS"],  # HEAD is guarded, too
        openapi_security_scheme_name=SECURITY_SCHEME,
        description=(
            "Sign in with a username or an e-mail address, and the password. With scopes, the token may do no more "
            "than they say; without, everything."
        ),
    )

    def on_app_init(config: AppConfig) -> AppConfig:
        config.state["sessions"] = sessions
        return guard.on_app_init(config)

    return on_app_init
