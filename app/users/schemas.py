"""Accounts on the wire."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from app.auth.schemas import MailedToken
from app.http.schemas import RowId

Username = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        extra={"syntax": "letters, digits, dot, underscore, hyphen; a letter or digit first"},
        # The look-ahead refuses the newline that `$` would let pass.
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)",
        description="Letters, digits, dot, underscore and hyphen, starting with a letter or digit; unique in any case.",
        examples=["alice"],
    ),
]
Email = Annotated[
    str,
    Meta(
        min_length=6,
        max_length=254,
        description="An e-mail address, not of a domain that is set aside (RFC 6761); unique in any case.",
        examples=["alice@example.com"],
        extra_json_schema={"format": "email"},
    ),
]
Password = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=r"^[^\x00]*$",
        description="The password, which no answer ever shows.",
        examples=["correct horse battery staple"],
        extra_json_schema={"format": "password"},
    ),
]


class UserCreate(Struct, forbid_unknown_fields=True):
    """What a person gives to register."""

    username: Username
    email: Email
    password: Password


class UserRead(Struct):
    """An account as its owner sees it."""

    id: RowId
    username: Annotated[str, Meta(examples=["alice"])]
    email: Annotated[str, Meta(examples=["alice@example.com"])]
    is_active: Annotated[bool, Meta(description="Whether the account may sign in.", examples=[True])]
    is_superuser: Annotated[bool, Meta(examples=[False])]
    email_verified: Annotated[bool, Meta(description="Whether the address was confirmed.", examples=[False])]
    created_at: Annotated[datetime, Meta(examples=["2026-01-31T12:00:00.123456Z"])]


class UserUpdate(Struct, forbid_unknown_fields=True):
    """What a person changes of their account; absent fields keep their value."""

    username: Username | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    current_password: Annotated[
        str,
        Meta(
            max_length=256,
            description="Needed for a new e-mail address.",
            examples=["correct horse battery staple"],
            extra_json_schema={"format": "password"},
        ),
    ] = ""


class RightsUpdate(Struct, forbid_unknown_fields=True):
    """What a superuser changes of an account; absent fields keep their value."""

    is_active: Annotated[bool, Meta(examples=[True])] | UnsetType = UNSET
    is_superuser: Annotated[bool, Meta(examples=[False])] | UnsetType = UNSET


class AddressUndo(Struct, forbid_unknown_fields=True):
    """The token from the mail to the address before."""

    token: MailedToken


class EmailVerification(Struct, forbid_unknown_fields=True):
    """The token from the mail."""

    token: MailedToken
