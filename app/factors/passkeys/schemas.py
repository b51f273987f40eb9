"""Passkeys on the wire: the options that browsers take, and the credentials that they return (WebAuthn, level 3).

The names are the specification's. What a browser adds to a credential is ignored.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

SOME_BYTES = "dGhlIHNhbWUgbnVtYmVyIG9mIGJ5dGVz"
PasskeyName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="Which device, or whose cloud, has it.",
        examples=["Telephone"],
    ),
]
# Bytes are in base64url without padding.
Base64 = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]*$", max_length=8192, examples=[SOME_BYTES])]
CredentialId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]+$",
        max_length=1364,
        description="Identifies the key on its device: up to 1023 bytes.",
        examples=[SOME_BYTES],
    ),
]
Kind = Literal["public-key"]


class AttestationResponse(Struct):
    """A device's account of a key that it has made."""

    client_data: Base64 = field(name="clientDataJSON")
    attestation_object: Base64 = field(name="attestationObject")


class NewCredential(Struct):
    """A key that a device has just made: `toJSON()` of what `navigator.credentials.create()` returns."""

    id: CredentialId
    raw_id: CredentialId = field(name="rawId")
    type: Kind
    response: Annotated[
        AttestationResponse, Meta(examples=[{"clientDataJSON": SOME_BYTES, "attestationObject": SOME_BYTES}])
    ]


class AssertionResponse(Struct):
    """The data that a device has signed by a key."""

    client_data: Base64 = field(name="clientDataJSON")
    authenticator_data: Base64 = field(name="authenticatorData")
    signature: Base64
    user_handle: Base64 | None = field(name="userHandle", default=None)


SIGNED = {"clientDataJSON": SOME_BYTES, "authenticatorData": SOME_BYTES, "signature": SOME_BYTES, "userHandle": "AAE"}


class SignedCredential(Struct):
    """A key that has just signed a challenge: `toJSON()` of what `navigator.credentials.get()` returns."""

    id: CredentialId
    raw_id: CredentialId = field(name="rawId")
    type: Kind
    response: Annotated[AssertionResponse, Meta(examples=[SIGNED])]


EXAMPLE: dict[str, Any] = {"id": SOME_BYTES, "rawId": SOME_BYTES, "type": "public-key"}


class PasskeyCreate(Struct, forbid_unknown_fields=True):
    """A key that a device has just made, and what its owner calls it."""

    name: PasskeyName
    credential: Annotated[
        NewCredential,
        Meta(examples=[EXAMPLE | {"response": {"clientDataJSON": SOME_BYTES, "attestationObject": SOME_BYTES}}]),
    ]


class PasskeyUpdate(Struct, forbid_unknown_fields=True):
    """Another name."""

    name: PasskeyName


class PasskeyForm(Struct):
    """The parameters of the grant by which a passkey signs in."""

    credential: Annotated[
        str,
        Meta(
            pattern=r"^[^\x00]*$",
            description="What `navigator.credentials.get()` returns, as JSON.",
            examples=['{"id": "...", "rawId": "...", "type": "public-key", "response": {}}'],
        ),
    ]


class Party(Struct):
    """The service that keys are made for."""

    id: Annotated[str, Meta(examples=["example.org"])]
    name: Annotated[str, Meta(examples=["Backend API"])]


class KeyOwner(Struct, rename="camel"):
    """The account that a key is made for, as a device shows it."""

    id: Base64
    name: Annotated[str, Meta(examples=["alice"])]
    display_name: Annotated[str, Meta(examples=["alice"])]


class Algorithm(Struct):
    """A kind of key, by its number at IANA (COSE)."""

    type: Kind
    alg: Annotated[int, Meta(ge=-65536, le=65536, examples=[-7])]


class KeyReference(Struct):
    """A key that a device may have."""

    id: CredentialId
    type: Kind


class KeySelection(Struct, rename="camel"):
    """The abilities that a key must have."""

    resident_key: Literal["required"]
    require_resident_key: Annotated[bool, Meta(examples=[True])]
    user_verification: Literal["required"]


Challenge = Annotated[str, Meta(description="Works once, for five minutes.", examples=[SOME_BYTES])]
Milliseconds = Annotated[int, Meta(ge=0, le=600_000, description="Milliseconds.", examples=[300_000])]


class CreationOptions(Struct, rename="camel"):
    """Options for `PublicKeyCredential.parseCreationOptionsFromJSON()`."""

    rp: Annotated[Party, Meta(examples=[{"id": "example.org", "name": "Backend API"}])]
    user: Annotated[KeyOwner, Meta(examples=[{"id": "AAE", "name": "alice", "displayName": "alice"}])]
    challenge: Challenge
    pub_key_cred_params: Annotated[list[Algorithm], Meta(examples=[[{"type": "public-key", "alg": -7}]])]
    timeout: Milliseconds
    exclude_credentials: Annotated[
        list[KeyReference], Meta(description="The account's keys; a device that has one makes no other.", examples=[[]])
    ]
    authenticator_selection: Annotated[
        KeySelection,
        Meta(examples=[{"residentKey": "required", "requireResidentKey": True, "userVerification": "required"}]),
    ]
    attestation: Literal["none"]


class RequestOptions(Struct, rename="camel"):
    """Options for `PublicKeyCredential.parseRequestOptionsFromJSON()`."""

    challenge: Challenge
    timeout: Milliseconds
    rp_id: Annotated[str, Meta(examples=["example.org"])]
    allow_credentials: Annotated[
        list[KeyReference], Meta(description="Empty: any key that the device has for the service.", examples=[[]])
    ]
    user_verification: Literal["required"]
