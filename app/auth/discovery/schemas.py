"""Public keys on the wire."""

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
