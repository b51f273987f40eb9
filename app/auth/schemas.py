"""Logins, sessions and credentials on the wire."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

SessionId = Annotated[int, Meta(ge=1, le=2**53 - 1, description="Identifies one session.", examples=[1])]
NewPassword = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=r"^[^\x00]*$",
        description="The new password; every one that registration takes is taken here too.",
        examples=["correct horse battery staple"],
        extra_json_schema={"format": "password"},
    ),
]
CurrentPassword = Annotated[
    str,
    Meta(max_length=256, pattern=r"^[^\x00]*$", examples=["hunter2"], extra_json_schema={"format": "password"}),
]
MailedToken = Annotated[
    str,
    Meta(max_length=2048, pattern=r"^[^\x00]*$", description="The token from the mail.", examples=["eyJhbGciOi..."]),
]
Address = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=320,
        pattern=r"^[^\x00]*$",
        examples=["alice@example.com"],
        extra_json_schema={"format": "email"},
    ),
]


class TokenRequest(Struct):
    """The form of the token endpoint (RFC 6749, sections 4.3.2 and 6); what it doesn't know it ignores."""

    grant_type: Literal["password", "refresh_token"] = "password"
    username: Annotated[str, Meta(description="A username or an e-mail address.", examples=["alice"])] = ""
    password: Annotated[
        str, Meta(extra_json_schema={"format": "password"}, examples=["correct horse battery staple"])
    ] = ""
    refresh_token: Annotated[str, Meta(description="For `grant_type=refresh_token`, instead of name and password.")] = (
        ""
    )
    scope: str = ""
    client_id: str = ""


class RevocationRequest(Struct):
    """The form of the revocation endpoint (RFC 7009, section 2.1); what it doesn't know it ignores."""

    token: Annotated[str, Meta(description="An access or a refresh token.")]
    token_type_hint: str = ""


class Token(Struct):
    """The answer of the token endpoint (RFC 6749, section 5.1)."""

    access_token: Annotated[str, Meta(description="Goes into `Authorization: Bearer` of every call.")]
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Meta(description="Seconds for which the access token is valid.", examples=[1800])]
    refresh_token: Annotated[str, Meta(description="Buys the next pair of tokens, once.")]


class ServerMetadata(Struct):
    """What an OAuth2 client needs to know of this server (RFC 8414, section 2)."""

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    service_documentation: str


class SessionRead(Struct):
    """A session as its owner sees it."""

    id: SessionId
    device: Annotated[str, Meta(description="The User-Agent that signed in.", examples=["curl/8.5"])]
    address: Annotated[str, Meta(description="Where it signed in from.", examples=["203.0.113.7"])]
    created_at: datetime
    last_used_at: Annotated[datetime, Meta(description="Right to the minute.")]
    expires_at: datetime
    current: Annotated[bool, Meta(description="Whether this very request belongs to it.")]


class PasswordChange(Struct, forbid_unknown_fields=True):
    """What a person gives to change their password."""

    current_password: CurrentPassword
    new_password: NewPassword


class PasswordResetRequest(Struct, forbid_unknown_fields=True):
    """Whose password was forgotten."""

    email: Address


class PasswordReset(Struct, forbid_unknown_fields=True):
    """The token from the mail and the password to set."""

    token: MailedToken
    new_password: NewPassword
