"""The OAuth2 endpoints on the wire."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class TokenRequest(Struct):
    """The form of the token endpoint (RFC 6749, section 4.3.2); what it doesn't know it ignores."""

    username: Annotated[str, Meta(description="A username or an e-mail address.", examples=["alice"])]
    password: Annotated[str, Meta(extra_json_schema={"format": "password"}, examples=["correct horse battery staple"])]
    grant_type: Literal["password"] = "password"
    scope: str = ""
    client_id: str = ""


class Token(Struct):
    """The answer of the token endpoint (RFC 6749, section 5.1)."""

    access_token: Annotated[str, Meta(description="Goes into `Authorization: Bearer` of every call.")]
    token_type: Literal["bearer"]
    expires_in: Annotated[int, Meta(description="Seconds for which the access token is valid.", examples=[1800])]
