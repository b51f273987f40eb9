"""Public keys, and what this service says of itself, on the wire."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Number = Annotated[str, Meta(description="In base64url.", examples=["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"])]


# The key of RFC 7517, appendix A.1.
EXAMPLE = {
    "kid": "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s",
    "kty": "EC",
    "alg": "ES256",
    "use": "sig",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}


class PublicKey(Struct):
    """A public key that verifies tokens (RFC 7517, RFC 7518, RFC 8037)."""

    kid: Annotated[
        str,
        Meta(
            description="Stands in the header of the tokens that it signed; the key's thumbprint (RFC 7638).",
            examples=["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"],
        ),
    ]
    kty: Literal["RSA", "EC", "OKP"]
    alg: Literal["RS256", "ES256", "EdDSA"]
    use: Literal["sig"]
    n: Number | UnsetType = UNSET
    e: Annotated[str, Meta(description="In base64url.", examples=["AQAB"])] | UnsetType = UNSET
    crv: Literal["P-256", "Ed25519"] | UnsetType = UNSET
    x: Number | UnsetType = UNSET
    y: Number | UnsetType = UNSET


class KeySet(Struct):
    """The public keys of this service (RFC 7517, section 5)."""

    keys: Annotated[list[PublicKey], Meta(examples=[[EXAMPLE]])]


class ServerMetadata(Struct):
    """What a client of OAuth2 (RFC 8414) or OpenID Connect (Discovery 1.0) needs to know of this server.

    A field that is absent stands for something that isn't there.
    """

    issuer: Annotated[str, Meta(examples=["https://api.example.com"])]
    jwks_uri: Annotated[str, Meta(examples=["https://api.example.com/.well-known/jwks.json"])]
    token_endpoint: Annotated[str, Meta(examples=["https://api.example.com/token"])]
    revocation_endpoint: Annotated[str, Meta(examples=["https://api.example.com/revoke"])]
    scopes_supported: Annotated[list[str], Meta(examples=[["items:read", "items:write"]])]
    grant_types_supported: Annotated[list[str], Meta(examples=[["password", "refresh_token"]])]
    response_types_supported: Annotated[list[str], Meta(examples=[[]])]
    token_endpoint_auth_methods_supported: Annotated[list[str], Meta(examples=[["none"]])]
    revocation_endpoint_auth_methods_supported: Annotated[list[str], Meta(examples=[["none"]])]
    service_documentation: Annotated[str, Meta(examples=["https://api.example.com/docs"])]
    protected_resources: Annotated[list[str], Meta(examples=[["https://api.example.com"]])]
    authorization_endpoint: Annotated[str, Meta(examples=["https://api.example.com/authorize"])] | UnsetType = UNSET
    device_authorization_endpoint: (
        Annotated[str, Meta(examples=["https://api.example.com/device_authorization"])] | UnsetType
    ) = UNSET
    introspection_endpoint: Annotated[str, Meta(examples=["https://api.example.com/introspect"])] | UnsetType = UNSET
    introspection_endpoint_auth_methods_supported: (
        Annotated[list[str], Meta(examples=[["client_secret_basic", "client_secret_post"]])] | UnsetType
    ) = UNSET
    response_modes_supported: Annotated[list[str], Meta(examples=[["query"]])] | UnsetType = UNSET
    code_challenge_methods_supported: Annotated[list[str], Meta(examples=[["S256"]])] | UnsetType = UNSET
    authorization_response_iss_parameter_supported: Annotated[bool, Meta(examples=[True])] | UnsetType = UNSET
    userinfo_endpoint: Annotated[str, Meta(examples=["https://api.example.com/userinfo"])] | UnsetType = UNSET
    subject_types_supported: Annotated[list[str], Meta(examples=[["public"]])] | UnsetType = UNSET
    id_token_signing_alg_values_supported: Annotated[list[str], Meta(examples=[["RS256"]])] | UnsetType = UNSET
    claims_supported: Annotated[list[str], Meta(examples=[["sub", "email"]])] | UnsetType = UNSET
    claims_parameter_supported: Annotated[bool, Meta(examples=[False])] | UnsetType = UNSET
    request_parameter_supported: Annotated[bool, Meta(examples=[False])] | UnsetType = UNSET
    request_uri_parameter_supported: Annotated[bool, Meta(examples=[False])] | UnsetType = UNSET


class ResourceMetadata(Struct):
    """What a client needs to know of this API as a resource (RFC 9728, section 2)."""

    resource: Annotated[str, Meta(examples=["https://api.example.com"])]
    authorization_servers: Annotated[list[str], Meta(examples=[["https://api.example.com"]])]
    scopes_supported: Annotated[list[str], Meta(examples=[["items:read", "items:write"]])]
    bearer_methods_supported: Annotated[list[str], Meta(examples=[["header"]])]
    resource_name: Annotated[str, Meta(examples=["Backend API"])]
    resource_documentation: Annotated[str, Meta(examples=["https://api.example.com/docs"])]
