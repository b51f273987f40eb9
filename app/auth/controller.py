"""The OAuth2 endpoints."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation

from app.auth.guard import PUBLIC
from app.auth.schemas import Token, TokenRequest
from app.auth.service import AuthService
from app.errors import OAuthError, UnsupportedMediaType
from app.requests import LENIENT

Auth = NamedDependency[SkipValidation[AuthService]]
Form = NamedDependency[SkipValidation[dict[str, str]]]
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


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
        pairs = parse_qsl(text, errors="strict", max_num_fields=100)
    except ValueError:
        raise OAuthError("The form is malformed") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise OAuthError("A parameter is repeated")
    if any("\0" in value for value in form.values()):
        raise OAuthError("A parameter contains NUL")
    return form


def token_request(form: dict[str, str]) -> TokenRequest:
    """The form as a password grant. Raises OAuthError."""
    if form.get("grant_type", "password") != "password":
        raise UnsupportedGrantType
    for name in ("username", "password"):
        if name not in form:
            raise OAuthError(f"{name} is required")
    return msgspec.convert(form, TokenRequest)


class AuthController(Controller):
    """Logging in."""

    tags = ["Authentication"]

    @post(
        "/token",
        status_code=200,
        opt={**PUBLIC, **LENIENT, "form": TokenRequest},
        dependencies={"form": Provide(read_form)},
        request_max_body_size=16 * 1024,
        summary="Log in",
    )
    async def login(self, auth: Auth, form: Form) -> Response[Token]:
        """Exchange a username or e-mail address and a password for an access token (RFC 6749, section 4.3)."""
        data = token_request(form)
        return Response(await auth.login(data.username, data.password), headers=NO_STORE)
