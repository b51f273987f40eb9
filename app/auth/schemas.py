"""Logins, sessions and credentials on the wire."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from app.http.schemas import FEW, TEXTS, FormText

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
    Meta(
        max_length=256,
        pattern=r"^[^\x00]*$",
        examples=["correct horse battery staple"],
        extra_json_schema={"format": "password"},
    ),
]
MailedToken = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^[^\x00]*$",
        description="The token from the mail.",
        examples=["eyJhbGciOiJIUzI1NiIs..."],
    ),
]
EmailAddress = Annotated[
    str,
    Meta(
        min_length=6,
        max_length=254,
        examples=["alice@example.com"],
        extra_json_schema={"format": "email"},
    ),
]


class PasswordForm(Struct):
    """The parameters of the password grant (RFC 6749, section 4.3.2)."""

    username: Annotated[FormText, Meta(description="A username or an e-mail address.", examples=["alice"])]
    password: Annotated[
        FormText, Meta(extra_json_schema={"format": "password"}, examples=["correct horse battery staple"])
    ]
    otp: Annotated[
        FormText,
        Meta(
            description="The code of an account's second factor, or one of its recovery codes; else ignored.",
            examples=["492039"],
        ),
    ] = ""


class RefreshForm(Struct):
    """The parameters of a refresh (RFC 6749, section 6)."""

    refresh_token: Annotated[
        FormText,
        Meta(
            description="For `grant_type=refresh_token`, instead of name and password.",
            examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6InJ0K2p3dCJ9..."],
        ),
    ]


class TokenRequest(Struct):
    """The form of the token endpoint; it also has the parameters of the grant, and what it doesn't know it ignores."""

    # An empty parameter counts as absent.
    more_json_schema: ClassVar[dict[str, Any]] = FEW

    grant_type: Annotated[FormText, Meta(description="The way to get tokens.", examples=["password"])] = "password"
    scope: Annotated[
        FormText,
        Meta(
            description=(
                "The scopes of the token, with spaces between them; without any, it may do all that its user may."
            ),
            examples=["items:read items:write"],
        ),
    ] = ""
    client_id: Annotated[
        FormText,
        Meta(description="The application that asks; ignored where none of this name is registered.", examples=["web"]),
    ] = ""


class RevocationRequest(Struct):
    """The form of the revocation endpoint (RFC 7009, section 2.1); what it doesn't know it ignores."""

    more_json_schema: ClassVar[dict[str, Any]] = FEW | {"if": {"required": ["token"]}, "then": TEXTS}

    token: Annotated[
        FormText,
        Meta(
            min_length=1,
            description="An access or a refresh token.",
            examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6InJ0K2p3dCJ9..."],
        ),
    ]
    token_type_hint: Annotated[FormText, Meta(description="Ignored.", examples=["refresh_token"])] = ""


class Token(Struct):
    """The answer of the token endpoint (RFC 6749, section 5.1)."""

    access_token: Annotated[
        str,
        Meta(
            description="Goes into `Authorization: Bearer` of every call.",
            examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9..."],
        ),
    ]
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Meta(description="Seconds for which the access token is valid.", examples=[1800])]
    refresh_token: (
        Annotated[
            str,
            Meta(
                description="Buys the next pair of tokens, once. An application gets one for `offline_access` only.",
                examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6InJ0K2p3dCJ9..."],
            ),
        ]
        | UnsetType
    ) = UNSET
    scope: (
        Annotated[
            str,
            Meta(
                description="The scopes of the access token; absent where it may do everything that its user may.",
                examples=["items:read items:write"],
            ),
        ]
        | UnsetType
    ) = UNSET
    id_token: (
        Annotated[
            str,
            Meta(
                description="Tells an application who has signed in; for the scope `openid` (OpenID Connect Core).",
                examples=["eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9..."],
            ),
        ]
        | UnsetType
    ) = UNSET


class SessionRead(Struct):
    """A session as its owner sees it."""

    id: SessionId
    device: Annotated[str, Meta(description="The User-Agent that signed in.", examples=["curl/8.5"])]
    address: Annotated[str, Meta(description="Where it signed in from.", examples=["203.0.113.7"])]
    amr: Annotated[
        list[str],
        Meta(
            description="How it was signed in (RFC 8176): `mfa` is among them where there was a second factor.",
            examples=[["pwd", "otp", "mfa"]],
        ),
    ]
    auth_time: Annotated[
        datetime,
        Meta(
            description="When its user last proved who they are, to the minute; refreshing proves nothing.",
            examples=["2026-01-31T12:00:00Z"],
        ),
    ]
    created_at: Annotated[datetime, Meta(description="To the minute.", examples=["2026-01-31T12:00:00Z"])]
    last_used_at: Annotated[
        datetime,
        Meta(description="To the minute; refreshing alone is no use of it.", examples=["2026-02-01T08:30:00Z"]),
    ]
    expires_at: Annotated[
        datetime,
        Meta(description="When it ends, unless it is used until then.", examples=["2026-02-15T08:30:00Z"]),
    ]
    current: Annotated[bool, Meta(description="Whether this very request belongs to it.", examples=[True])]


class PasswordChange(Struct, forbid_unknown_fields=True):
    """What a person gives to change their password."""

    current_password: CurrentPassword
    new_password: NewPassword


class PasswordResetRequest(Struct, forbid_unknown_fields=True):
    """Whose password was forgotten."""

    email: EmailAddress


class PasswordReset(Struct, forbid_unknown_fields=True):
    """The token from the mail and the password to set."""

    token: MailedToken
    new_password: NewPassword


class Accepted(Struct):
    """The mail is on its way."""

    status: Literal["accepted"] = "accepted"
