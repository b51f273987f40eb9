"""The claims about a person on the wire."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType


class UserInfo(Struct):
    """The claims about a person that a token's scopes give (OpenID Connect Core, section 5.3.2)."""

    sub: Annotated[str, Meta(description="The user's id, which never changes.", examples=["1"])]
    preferred_username: (
        Annotated[str, Meta(description="For the scope `profile`; it may change.", examples=["alice"])] | UnsetType
    ) = UNSET
    updated_at: (
        Annotated[
            int,
            Meta(
                description="For the scope `profile`: seconds since 1970 at which the account was changed last.",
                examples=[1769860800],
                ge=0,
            ),
        ]
        | UnsetType
    ) = UNSET
    email: Annotated[str, Meta(description="For the scope `email`.", examples=["alice@example.com"])] | UnsetType = (
        UNSET
    )
    email_verified: (
        Annotated[bool, Meta(description="For the scope `email`: whether it was confirmed.", examples=[True])]
        | UnsetType
    ) = UNSET
