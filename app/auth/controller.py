"""The OAuth2 endpoints, and the caller's sessions and password."""

from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from litestar import Controller, MediaType, Request, Response, delete, get, post, put
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, SkipValidation
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.credentials import RESET_MAIL, CredentialService, InvalidResetToken
from app.auth.guard import PUBLIC, SignedInRequest, caller
from app.auth.schemas import (
    MAX_PARAMETERS,
    PasswordChange,
    PasswordReset,
    PasswordResetRequest,
    RevocationRequest,
    ServerMetadata,
    SessionId,
    SessionRead,
    Token,
    TokenRequest,
)
from app.auth.service import AuthService, InvalidRefreshToken, WrongCredentials
from app.auth.sessions import SessionNotFound, SessionService
from app.db import after_commit
from app.errors import OAuthError, TooManyRequests, UnsupportedMediaType
from app.jobs import enqueue
from app.limits import (
    PASSWORD_RESETS,
    PASSWORD_RESETS_PER_NETWORK,
    Limits,
    calling_client,
    client_address,
    client_network,
)
from app.logs import security_event
from app.openapi import raises
from app.requests import LENIENT, Session
from app.users.schemas import Accepted
from app.users.service import UserNotFound, WrongPassword, name_key, normalise_email

Auth = NamedDependency[SkipValidation[AuthService]]
Credentials = NamedDependency[SkipValidation[CredentialService]]
Form = NamedDependency[SkipValidation[dict[str, str]]]
RateLimits = NamedDependency[SkipValidation[Limits]]
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
MAX_FORM_BYTES = 16 * 1024


class UnsupportedGrantType(OAuthError):
    """The token endpoint knows no such grant."""

    error = "unsupported_grant_type"
    detail = "The grant type is not supported"


async def read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The parameters of a form (RFC 6749, section 3.2); an empty one counts as absent, and none may come twice.

    Parsed here and not by the framework, which keeps the last forms in a cache, with their passwords, and replaces
    bytes that aren't UTF-8. Raises UnsupportedMediaType and OAuthError.
    """
    if request.content_type[0].lower() != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("The body must be application/x-www-form-urlencoded")
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


def required(form: dict[str, str], name: str) -> str:
    """A parameter that must be there. Raises OAuthError."""
    if name not in form:
        raise OAuthError(f"{name} is required")
    return form[name]


class OAuthController(Controller):
    """The endpoints of an OAuth2 server, which ordinary client libraries speak to."""

    tags = ["Authentication"]

    @post(
        "/token",
        status_code=200,
        opt={**PUBLIC, **LENIENT, "form": TokenRequest},
        dependencies={"form": Provide(read_form)},
        request_max_body_size=MAX_FORM_BYTES,
        summary="Log in, or refresh a login",
        responses=raises(OAuthError, UnsupportedGrantType, InvalidRefreshToken, WrongCredentials, TooManyRequests),
    )
    async def login(self, request: Request[Any, Any, Any], auth: Auth, form: Form) -> Response[Token]:
        """Exchange name and password, or a refresh token, for a pair of tokens (RFC 6749, sections 4.3 and 6).

        A refresh token works once. The one before again within ten seconds is taken for the retry of a lost answer; an
        older one ends the session.
        """
        client = calling_client(request)
        match form.get("grant_type", "password"):
            case "password":
                token = await auth.login(required(form, "username"), required(form, "password"), client)
            case "refresh_token":
                token = await auth.refresh(required(form, "refresh_token"), client)
            case _:
                raise UnsupportedGrantType
        return Response(token, headers=NO_STORE)

    @post(
        "/revoke",
        status_code=200,
        opt={**PUBLIC, **LENIENT, "form": RevocationRequest},
        dependencies={"form": Provide(read_form)},
        request_max_body_size=MAX_FORM_BYTES,
        summary="Log out",
        responses=raises(OAuthError),
    )
    async def revoke(self, request: Request[Any, Any, Any], auth: Auth, form: Form) -> Response[None]:
        """End the session of an access or a refresh token (RFC 7009); unknown tokens are fine too."""
        await auth.revoke(required(form, "token"), calling_client(request))
        return Response(None, media_type=MediaType.TEXT)

    @get("/.well-known/oauth-authorization-server", opt={**PUBLIC, **LENIENT}, summary="Read the server's metadata")
    async def server_metadata(self, state: State) -> ServerMetadata:
        """What a client library needs to know (RFC 8414)."""
        url = state.tokens.issuer
        return ServerMetadata(
            issuer=url,
            token_endpoint=f"{url}/token",
            revocation_endpoint=f"{url}/revoke",
            grant_types_supported=["password", "refresh_token"],
            response_types_supported=[],
            token_endpoint_auth_methods_supported=["none"],
            revocation_endpoint_auth_methods_supported=["none"],
            service_documentation=f"{url}/docs",
        )


class CredentialController(Controller):
    """The caller's sessions and password."""

    tags = ["Authentication"]

    @get("/users/me/sessions", summary="List your sessions")
    async def list_sessions(self, request: SignedInRequest, session: Session) -> list[SessionRead]:
        """Where you are signed in, the latest used first."""
        return await SessionService(session).all(request.user.id, request.user.session_id)

    @delete("/users/me/sessions/{session_id:int}", summary="End a session", responses=raises(SessionNotFound))
    async def end_session(
        self, request: SignedInRequest, transaction: Session, session_id: FromPath[SessionId]
    ) -> None:
        """Sign out elsewhere, or here; the session's access tokens fail from now on."""
        await SessionService(transaction).end(request.user.id, session_id)
        note(request, transaction, "session_ended", ended_id=session_id)

    @delete("/users/me/sessions", summary="End all other sessions")
    async def end_other_sessions(self, request: SignedInRequest, transaction: Session) -> None:
        """Sign out everywhere but here."""
        count = await SessionService(transaction).end_others(request.user.id, request.user.session_id)
        note(request, transaction, "other_sessions_ended", count=count)

    @put(
        "/users/me/password",
        status_code=204,
        summary="Change your password",
        responses=raises(WrongPassword, UserNotFound, TooManyRequests),
    )
    async def change_password(
        self, request: SignedInRequest, credentials: Credentials, data: JSONBody[PasswordChange]
    ) -> None:
        """Needs the current password. Every other session ends, and a mail tells you."""
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
        limits: RateLimits,
        transaction: Session,
        data: JSONBody[PasswordResetRequest],
    ) -> Accepted:
        """Mails a token that works once, for 10 minutes. The answer is the same whether the account exists or not."""
        email = normalise_email(data.email)
        await limits.hit(PASSWORD_RESETS_PER_NETWORK, client_network(request))
        await limits.hit(PASSWORD_RESETS, name_key(email))
        await enqueue(transaction, RESET_MAIL, {"email": email})
        after_commit(transaction, partial(security_event, "password_reset_requested", address=client_address(request)))
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


def note(request: SignedInRequest, session: AsyncSession, event: str, **fields: int) -> None:
    """Log a security event of the caller's, once the transaction has committed."""
    after_commit(session, partial(caller(request).note, event, **fields))
