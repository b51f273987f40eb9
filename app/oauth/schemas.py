"""Applications and grants on the wire."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from app.http.schemas import FEW, TEXTS, FormText, RowId

GrantType = Literal[
    "authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"
]
Algorithm = Literal["RS256", "ES256"]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="What people are shown.",
        examples=["Umbrella Counter"],
    ),
]
RedirectUris = Annotated[
    list[Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$")]],
    Meta(
        max_length=20,
        description=(
            "Where answers may go: `https`, `http` on a loopback IP address, or a private scheme with a dot. They are "
            "compared character by character; only the port of a loopback address is free."
        ),
        examples=[["https://app.example.com/callback"]],
    ),
]
GrantTypes = Annotated[
    list[GrantType],
    Meta(
        min_length=1,
        max_length=4,
        description="The ways in which it may get tokens.",
        examples=[["authorization_code", "refresh_token"]],
    ),
]
Scopes = Annotated[
    list[Annotated[str, Meta(max_length=100, pattern=r"^[^\x00]*$")]],
    Meta(
        min_length=1,
        max_length=100,
        description="The most that it may ask for.",
        examples=[["openid", "profile", "offline_access", "items:read"]],
    ),
]
Confidential = Annotated[
    bool,
    Meta(
        description="Whether it can keep a secret: a server can, a page in a browser or a program on a phone can't.",
        examples=[True],
    ),
]
FirstParty = Annotated[
    bool,
    Meta(
        description="Whether it is yours: then people aren't asked for their consent, and it may take passwords.",
        examples=[False],
    ),
]
SigningAlgorithm = Annotated[Algorithm, Meta(description="That of its ID tokens.", examples=["RS256"])]
ClientName = Annotated[str, Meta(examples=["8PmCUWNhVXvK4dCDoF1bE0Jr"], description="Its name in requests.")]
Secret = Annotated[
    str,
    Meta(description="Shown this once.", examples=["tq5V2SbXn7KcYlU0eRwPzA8mD3HfGjJ1iC6oL4vN9xBs"]),
]


class ClientCreate(Struct, forbid_unknown_fields=True):
    """What a new application is made of."""

    name: Name
    scopes: Scopes
    redirect_uris: RedirectUris = []
    grant_types: GrantTypes = field(default_factory=lambda: ["authorization_code", "refresh_token"])
    confidential: Confidential = True
    first_party: FirstParty = False
    id_token_signed_response_alg: SigningAlgorithm = "RS256"  # noqa: S105 - an algorithm


class ClientUpdate(Struct, forbid_unknown_fields=True):
    """What changes about an application: absent fields keep their value."""

    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    redirect_uris: RedirectUris | UnsetType = UNSET
    grant_types: GrantTypes | UnsetType = UNSET
    first_party: FirstParty | UnsetType = UNSET
    id_token_signed_response_alg: SigningAlgorithm | UnsetType = UNSET


class ClientRead(Struct):
    """An application as superusers see it; its secret is shown when it is made, and never again."""

    id: RowId
    client_id: ClientName
    name: Annotated[str, Meta(examples=["Umbrella Counter"])]
    redirect_uris: Annotated[list[str], Meta(examples=[["https://app.example.com/callback"]])]
    grant_types: Annotated[list[GrantType], Meta(examples=[["authorization_code", "refresh_token"]])]
    scopes: Annotated[list[str], Meta(examples=[["openid", "profile", "offline_access", "items:read"]])]
    confidential: Confidential
    first_party: FirstParty
    id_token_signed_response_alg: SigningAlgorithm
    client_secret: Secret | UnsetType = UNSET


class ClientSecret(Struct):
    """A new secret of an application."""

    client_secret: Secret


class GrantRead(Struct):
    """What a person has granted one application."""

    id: RowId
    client_id: ClientName
    name: Annotated[str, Meta(examples=["Umbrella Counter"])]
    scopes: Annotated[list[str], Meta(examples=[["openid", "items:read"]])]
    created_at: Annotated[datetime, Meta(examples=["2026-01-31T12:00:00Z"], description="To the minute.")]
    last_used_at: Annotated[
        datetime | None,
        Meta(examples=["2026-02-01T08:30:00Z"], description="To the minute; null once nothing of it is left in use."),
    ]


ClientIdParameter = Annotated[FormText, Meta(description="The application.", examples=["8PmCUWNhVXvK4dCDoF1bE0Jr"])]
SecretParameter = Annotated[
    FormText,
    Meta(
        description="Of a confidential application that doesn't send it by `Authorization: Basic`.",
        examples=["tq5V2SbXn7KcYlU0eRwPzA8mD3HfGjJ1iC6oL4vN9xBs"],
        extra_json_schema={"format": "password"},
    ),
]
ScopeParameter = Annotated[
    FormText,
    Meta(
        description="With spaces between them; without any, all that the application may ask for.",
        examples=["items:read"],
    ),
]


class CodeForm(Struct):
    """The form by which an application gets tokens for a code (RFC 6749, section 4.1.3; RFC 7636)."""

    code: Annotated[
        FormText, Meta(description="The code that came with the redirect.", examples=["SplxlOBeZQQYbYS6WxSbIA"])
    ]
    redirect_uri: Annotated[
        FormText, Meta(description="That of the request.", examples=["https://app.example.com/callback"])
    ]
    code_verifier: Annotated[
        FormText,
        Meta(
            description="That of the request's `code_challenge`.",
            examples=["dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"],
        ),
    ]
    client_id: ClientIdParameter = ""
    client_secret: SecretParameter = ""


class CredentialsForm(Struct):
    """The form by which an application gets a token of its own (RFC 6749, section 4.4.2)."""

    client_id: ClientIdParameter = ""
    client_secret: SecretParameter = ""
    scope: ScopeParameter = ""


class DeviceForm(Struct):
    """The form by which a device asks for its tokens (RFC 8628, section 3.4)."""

    device_code: Annotated[
        FormText, Meta(description="The code of `POST /device_authorization`.", examples=["GmRhmhcxhwAzk..."])
    ]
    client_id: ClientIdParameter = ""
    client_secret: SecretParameter = ""


class DeviceAuthorizationRequest(Struct):
    """The form by which a device begins to wait (RFC 8628, section 3.1); what it doesn't know it ignores."""

    more_json_schema: ClassVar[dict[str, Any]] = FEW | {"if": {"required": ["client_id"]}, "then": TEXTS}

    client_id: Annotated[FormText, Meta(description="The application.", examples=["8PmCUWNhVXvK4dCDoF1bE0Jr"])]
    client_secret: SecretParameter = ""
    scope: ScopeParameter = ""


class DeviceAuthorization(Struct):
    """The codes with which a device waits (RFC 8628, section 3.2)."""

    device_code: Annotated[
        str, Meta(description="The device's own, with which it asks.", examples=["GmRhmhcxhwAzk..."])
    ]
    user_code: Annotated[str, Meta(description="For the person to type.", examples=["WDJB-MJHT"])]
    verification_uri: Annotated[str, Meta(examples=["https://api.example.com/account/device"])]
    verification_uri_complete: Annotated[
        str,
        Meta(
            description="The same with the code in it, for a QR code.",
            examples=["https://api.example.com/account/device?code=WDJB-MJHT"],
        ),
    ]
    expires_in: Annotated[int, Meta(description="Seconds.", examples=[600])]
    interval: Annotated[int, Meta(description="Seconds to wait between two questions.", examples=[5])]


class IntrospectionRequest(Struct):
    """The form of the introspection endpoint (RFC 7662, section 2.1); what it doesn't know it ignores."""

    more_json_schema: ClassVar[dict[str, Any]] = FEW | {"if": {"required": ["token"]}, "then": TEXTS}

    token: Annotated[FormText, Meta(min_length=1, description="An access token.", examples=["eyJhbGciOiJIUzI1..."])]
    token_type_hint: Annotated[FormText, Meta(description="Ignored.", examples=["access_token"])] = ""
    client_id: ClientIdParameter = ""
    client_secret: SecretParameter = ""


class Introspection(Struct):
    """What there is to know of a token (RFC 7662, section 2.2); of one that isn't valid, nothing."""

    active: Annotated[bool, Meta(examples=[True])]
    scope: Annotated[str, Meta(examples=["items:read"])] | UnsetType = UNSET
    client_id: Annotated[str, Meta(examples=["8PmCUWNhVXvK4dCDoF1bE0Jr"])] | UnsetType = UNSET
    token_type: Annotated[str, Meta(examples=["Bearer"])] | UnsetType = UNSET
    exp: Annotated[int, Meta(examples=[1769862600])] | UnsetType = UNSET
    iat: Annotated[int, Meta(examples=[1769860800])] | UnsetType = UNSET
    sub: Annotated[str, Meta(description="The user's id.", examples=["1"])] | UnsetType = UNSET
    aud: Annotated[str, Meta(examples=["https://api.example.com"])] | UnsetType = UNSET
    iss: Annotated[str, Meta(examples=["https://api.example.com"])] | UnsetType = UNSET
    jti: Annotated[str, Meta(examples=["Tk3Qm1Zc0dW5x7Vh"])] | UnsetType = UNSET
