"""The routes of authentication: the OAuth2 endpoints, and the caller's sessions and password."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from litestar import Controller, MediaType, Request, Response, delete, get, post, put
from litestar.datastructures import State
from litestar.di import Provide
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.auth.credentials import CredentialService, InvalidResetToken, UserNotFound, WrongPassword
from app.auth.guard import SignedInRequest, caller
from app.auth.schemas import (
    Accepted,
    PasswordChange,
    PasswordForm,
    PasswordReset,
    PasswordResetRequest,
    RefreshForm,
    RevocationRequest,
    SessionId,
    SessionRead,
    Token,
    TokenRequest,
)
from app.auth.scopes import InvalidScope
from app.auth.service import AuthService, InvalidClient, InvalidRefreshToken, UnauthorizedClient
from app.auth.sessions import SessionNotFound, SessionService
from app.auth.sign_in import WrongCredentials
from app.errors import OAuthError, TooManyRequests, UnsupportedMediaType
from app.http.access import ANY_LEVEL, FORM_KEY, LENIENT, PUBLIC
from app.http.client import calling_client
from app.http.grants import Grant
from app.http.openapi import raises
from app.http.requests import InTransaction, Provided, check_coding, media_type
from app.http.schemas import MAX_PARAMETERS
from app.security.applications import Application, Applications
from app.security.bearers import PREFIX_LENGTH, BearerKind
from app.security.limits import Client
from app.security.second_step import MfaRequired

Auth = Provided[AuthService]
Credentials = Provided[CredentialService]
Sessions = Provided[SessionService]
Form = Provided[dict[str, str]]
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
MAX_FORM_BYTES = 16 * 1024


class UnsupportedGrantType(OAuthError):
    """The token endpoint doesn't support the grant type."""

    error = "unsupported_grant_type"
    detail = "The grant type is not supported"


async def read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the parameters of a form (RFC 6749, section 3.2). Raise UnsupportedMediaType and OAuthError.

    An empty parameter counts as absent, and none may come twice. Litestar's own parser isn't used, since it keeps the
    last forms in a cache, with their passwords, and replaces bytes that aren't UTF-8.
    """
    # Not reported: `parse_url_encoded_form_data` in litestar/_parsers.py.
    if media_type(request.headers) != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("The body must be application/x-www-form-urlencoded")
    check_coding(request.headers)
    try:
        text = (await request.body()).decode()
        pairs = parse_qsl(text, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise OAuthError("The form is malformed") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise OAuthError("A parameter is repeated")
    if any("\0" in value for value in form.values()):
        raise OAuthError("A parameter contains NUL")
    return form


def required(form: Mapping[str, str], name: str) -> str:
    """Return a required parameter. Raise OAuthError when it is absent."""
    if name not in form:
        raise OAuthError(f"{name} is required")
    return form[name]


def authorization_of(request: Request[Any, Any, Any]) -> list[str]:
    """Return the lines of a request's Authorization header, by which an application may say who it is."""
    return request.headers.getall("authorization", [])


def grants_of(auth: AuthService) -> dict[str, Grant]:
    """Return the grants by which people sign in and stay so: the password's and the refresh token's."""

    async def log_in(form: Mapping[str, str], client: Client, application: Application | None) -> Token:
        name, password = required(form, "username"), required(form, "password")
        return await auth.login(name, password, client, form.get("scope"), application, otp=form.get("otp"))

    async def refresh(form: Mapping[str, str], client: Client, application: Application | None) -> Token:
        return await auth.refresh(required(form, "refresh_token"), client, form.get("scope"), application)

    return {"password": Grant(log_in, PasswordForm), "refresh_token": Grant(refresh, RefreshForm)}


class OAuthController(Controller):
    """The endpoints of an OAuth2 server, for ordinary client libraries."""

    tags = ["Authentication"]

    @post(
        "/token",
        status_code=200,
        opt=PUBLIC | LENIENT | {FORM_KEY: TokenRequest},
        dependencies={"form": Provide(read_form)},
        request_max_body_size=MAX_FORM_BYTES,
        summary="Log in, or refresh a login",
        responses=raises(
            OAuthError,
            UnsupportedGrantType,
            InvalidScope,
            InvalidRefreshToken,
            UnauthorizedClient,
            WrongCredentials,
            InvalidClient,
            MfaRequired,
            TooManyRequests,
        ),
    )
    async def login(self, request: Request[Any, Any, Any], state: State, form: Form) -> Response[Token]:
        """Exchange name and password, or a refresh token, for a pair of tokens (RFC 6749, sections 4.3 and 6).

        A refresh token works once. The one before again within ten seconds is taken for the retry of a lost answer; an
        older one ends the session.

        An account with a second factor needs a code in `otp`, too: without one, a right password is 403 `mfa_required`.

        With a `scope`, the session may do no more than that. In a refresh, it narrows that one access token.
        """
        grant: Grant | None = state.parts.grants.get(form.get("grant_type", "password"))
        if grant is None:
            raise UnsupportedGrantType
        applications: Applications = state.parts.applications
        application = await applications.authenticate(form, authorization_of(request))
        token: Token = await grant.answer(form, calling_client(request), application)
        if application and not token.id_token and "openid" in (token.scope or "").split():
            token.id_token = await applications.id_token(application, token.access_token, token.expires_in) or UNSET
        return Response(token, headers=NO_STORE)

    @post(
        "/revoke",
        status_code=200,
        opt=PUBLIC | LENIENT | {FORM_KEY: RevocationRequest},
        dependencies={"form": Provide(read_form)},
        request_max_body_size=MAX_FORM_BYTES,
        summary="Log out",
        responses=raises(OAuthError, UnauthorizedClient, InvalidClient),
    )
    async def revoke(self, request: Request[Any, Any, Any], auth: Auth, state: State, form: Form) -> Response[None]:
        """End the session of an access or a refresh token, or a token of another kind (RFC 7009).

        Unknown tokens are fine too.
        """
        token = required(form, "token")
        application = await state.parts.applications.authenticate(form, authorization_of(request))
        kinds: Mapping[str, BearerKind] = state.parts.bearers
        if kind := kinds.get(token[:PREFIX_LENGTH]):
            await kind.revoke(token, calling_client(request))
        else:
            await auth.revoke(token, calling_client(request), application)
        return Response(None, media_type=MediaType.TEXT)


class CredentialController(Controller):
    """The caller's sessions and password."""

    tags = ["Authentication"]

    @get("/users/me/sessions", opt=ANY_LEVEL, summary="List your sessions")
    async def list_sessions(self, request: SignedInRequest, sessions: Sessions) -> list[SessionRead]:
        """Where you are signed in, the latest used first."""
        return await sessions.all(request.user.id, request.user.session_id)

    @delete(
        "/users/me/sessions/{session_id:int}",
        opt=ANY_LEVEL,
        summary="End a session",
        responses=raises(SessionNotFound),
    )
    async def end_session(
        self, request: SignedInRequest, sessions: Sessions, transaction: InTransaction, session_id: FromPath[SessionId]
    ) -> None:
        """Sign out elsewhere, or here; the session's access tokens fail from now on."""
        await sessions.end(transaction, caller(request), session_id)

    @delete("/users/me/sessions", opt=ANY_LEVEL, summary="End all other sessions")
    async def end_other_sessions(
        self, request: SignedInRequest, sessions: Sessions, transaction: InTransaction
    ) -> None:
        """Sign out everywhere but here."""
        await sessions.end_others(transaction, caller(request))

    @put(
        "/users/me/password",
        status_code=204,
        summary="Change your password",
        responses=raises(WrongPassword, UserNotFound, TooManyRequests),
    )
    async def change_password(
        self, request: SignedInRequest, credentials: Credentials, data: JSONBody[PasswordChange]
    ) -> None:
        """Needs the current password. Every other session ends, and a mail tells you.

        Tokens for scripts stay; those end with a password reset.
        """
        await credentials.change(caller(request), data.current_password, data.new_password)

    @post(
        "/password-reset",
        status_code=202,
        opt=PUBLIC,
        summary="Ask for a new password",
        responses=raises(TooManyRequests),
    )
    async def request_password_reset(
        self,
        request: Request[Any, Any, Any],
        credentials: Credentials,
        transaction: InTransaction,
        data: JSONBody[PasswordResetRequest],
    ) -> Accepted:
        """Mails a token that works once, for 10 minutes. The answer is the same whether the account exists or not."""
        await credentials.request_reset(transaction, data.email, calling_client(request))
        return Accepted()

    @post(
        "/password-reset/confirm",
        status_code=204,
        opt=PUBLIC,
        summary="Set a new password",
        responses=raises(InvalidResetToken),
    )
    async def reset_password(
        self, request: Request[Any, Any, Any], credentials: Credentials, data: JSONBody[PasswordReset]
    ) -> None:
        """Takes the token from the mail. Every session ends."""
        await credentials.reset(data.token, data.new_password, calling_client(request))
