"""The guard of every route that isn't public: Litestar's for OAuth2 and JWT, with stricter checks."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from litestar import Request
from litestar.config.app import AppConfig
from litestar.enums import ScopeType
from litestar.security.jwt import JWTCookieAuthenticationMiddleware, OAuth2PasswordBearerAuth
from litestar.types import OnAppInitHandler, Receive, Scope, Send
from msgspec import UNSET

from app.auth.access_tokens import AccessTokens
from app.auth.caller import Caller, InvalidCredentials, SignedIn
from app.errors import AppError, Unauthorized
from app.http.access import (
    SECURITY_SCHEME,
    NotAllowedWithThisToken,
    PersonNeeded,
    check_fresh,
    check_right,
    check_scope,
    is_fresh,
    is_public,
    own_session_fields,
    right_of,
)
from app.http.client import calling_client
from app.http.requests import decode
from app.security.bearers import PREFIX_LENGTH, BearerReader
from app.security.tokens import InvalidTokenError, UnknownKeyError

SignedInRequest = Request[SignedIn, BearerReader, Any]


class NotAuthenticated(Unauthorized):
    """The request has no bearer token: no credentials, or those of another scheme (RFC 6750, section 3.1)."""

    detail = "Not authenticated"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


def caller(request: SignedInRequest) -> Caller:
    """Return the caller of a request, for services that check and log it."""
    return Caller(request.user.id, request.user.session_id, calling_client(request))


async def own_session_of(request: Request[Any, Any, Any]) -> SignedIn | None:
    """Return the caller of a request to a public route, by a session of theirs that may do everything; else None.

    A token that isn't good makes no difference there.
    """
    try:
        token = bearer_token(request.headers.getall("authorization", []))
        reader: BearerReader = request.app.state.bearers.of(token)
        user: SignedIn | None = await reader.signed_in(await verify(request, reader, token))
    except Unauthorized:
        return None
    return user if user and user.scope is None and user.is_own_session else None


class BearerReaders:
    """The readers of all kinds of bearer tokens: access tokens, and those that features add by their prefixes."""

    def __init__(self, access_tokens: BearerReader, others: Mapping[str, BearerReader]) -> None:
        self.access_tokens = access_tokens
        self.others = others

    def of(self, token: str) -> BearerReader:
        """Return the reader of a token."""
        return self.others.get(token[:PREFIX_LENGTH], self.access_tokens)


class Guard(JWTCookieAuthenticationMiddleware):
    """The guard, which takes a bearer token from the Authorization header, and no other scheme and no cookie."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raise NotAuthenticated, InvalidCredentials, and the errors of check_access.

        A body is read after the token was verified, so that a stranger can't have one kept, and before the database is
        asked: what a session or a user loses while the body is on its way, this request has lost, too.
        """
        # Litestar's own takes a token after any scheme, or in a cookie, and sends no challenge. Not reported:
        # `authenticate_request` in litestar/security/jwt/middleware.py.
        if scope["type"] == ScopeType.HTTP and scope["method"] != "OPTIONS" and not is_public(scope["route_handler"]):
            request: SignedInRequest = Request(scope, receive)
            token = bearer_token(request.headers.getall("authorization", []))
            reader: BearerReader = request.app.state.bearers.of(token)
            verified = await verify(request, reader, token)
            if request.route_handler.parsed_data_field:
                await request.body()
            user: SignedIn | None = await reader.signed_in(verified)
            if user is None:
                raise InvalidCredentials
            await check_access(request, user)
            scope["user"], scope["auth"] = user, reader
        await self.app(scope, receive, send)


async def check_access(request: SignedInRequest, user: SignedIn) -> None:
    """Raise the errors of check_token, of check_right, of the features' own checks, and of check_fresh, in this order.

    So nobody is told to sign in again who may not make the request even then.
    """
    handler = request.route_handler
    if user.scope is not None:
        await check_token(request, user, user.scope.split())
    check_right(handler, request.path_params, user.id, is_superuser=user.is_superuser)
    for check in request.app.state.parts.checks:
        await check(request, user)
    if is_fresh(handler):
        check_fresh(user.authenticated_at, request.app.state.fresh_sign_in)


async def check_token(request: SignedInRequest, user: SignedIn, scopes: Sequence[str]) -> None:
    """Raise NotAllowedWithThisToken, InsufficientScope and PersonNeeded unless a token of scopes may make a request."""
    if own_session_fields(request.route_handler) and await needs_own_session(request):
        raise NotAllowedWithThisToken
    check_scope(request.route_handler, scopes, is_own_session=user.is_own_session)
    if not user.is_person and right_of(request.route_handler) is None:
        raise PersonNeeded


async def needs_own_session(request: SignedInRequest) -> bool:
    """Return whether a body has fields that only a session that may do everything changes.

    A body that can't be read has none: what is wrong with it, only a caller with the right is told, and later.
    """
    data_field = request.route_handler.parsed_data_field
    if data_field is None:
        return False
    try:
        data = decode(await request.body(), data_field.annotation)
    except AppError:
        return False
    return any(getattr(data, field) is not UNSET for field in own_session_fields(request.route_handler))


async def verify(request: Request[Any, Any, Any], reader: BearerReader, token: str) -> object:
    """Return what is verified of a token without the database. Raise InvalidCredentials."""
    try:
        return reader.verify(token)
    except InvalidTokenError as refusal:
        return await verify_again(request, reader, token, refusal)


async def verify_again(
    request: Request[Any, Any, Any], reader: BearerReader, token: str, refusal: InvalidTokenError
) -> object:
    """Return what `verify` returns once the signing keys have been read again, where it knew none of the token's.

    Raise InvalidCredentials.
    """
    if not isinstance(refusal, UnknownKeyError):
        raise InvalidCredentials
    await request.app.state.parts.signing_keys.look_again()
    try:
        return reader.verify(token)
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


def create_guard(
    access_tokens: AccessTokens, others: Mapping[str, BearerReader], scopes: dict[str, str], fresh_sign_in: timedelta
) -> OnAppInitHandler:
    """Return the handler that adds the guard to an application, and its security scheme to the OpenAPI document.

    `others` are the readers of tokens that aren't access tokens, by their prefixes. `scopes` says what each scope is
    for, and `fresh_sign_in` how long a sign-in counts as recent.
    """
    guard = OAuth2PasswordBearerAuth[SignedIn, Any](
        token_secret=access_tokens.tokens.secret,
        token_url="token",  # noqa: S106 - a URL, relative to the document
        oauth_scopes=scopes,
        retrieve_user_handler=lambda claims, _connection: access_tokens.signed_in(claims),
        authentication_middleware_class=Guard,
        algorithm=access_tokens.tokens.algorithm,
        # By default HEAD is let through, too: https://github.com/litestar-org/litestar/pull/2160
        exclude_http_methods=["OPTIONS"],  # HEAD is guarded, too
        openapi_security_scheme_name=SECURITY_SCHEME,
        description=(
            "Sign in with a username or an e-mail address, and the password. With scopes, the token may do no more "
            "than they say; without, everything."
        ),
    )

    def on_app_init(config: AppConfig) -> AppConfig:
        config.state["bearers"] = BearerReaders(access_tokens, others)
        config.state["fresh_sign_in"] = fresh_sign_in
        return guard.on_app_init(config)

    return on_app_init
