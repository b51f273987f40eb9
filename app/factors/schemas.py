"""Second factors on the wire."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from app.auth.schemas import CurrentPassword
from app.factors.passkeys.schemas import EXAMPLE, SIGNED, SignedCredential
from app.http.schemas import RowId

Code = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[^\x00]*$",
        description="The six digits that the app shows.",
        examples=["492039"],
    ),
]


class TotpSecret(Struct):
    """A secret for an authenticator app, until the app's first code confirms it."""

    secret: Annotated[
        str, Meta(description="In base32, to be typed in.", examples=["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"])
    ]
    uri: Annotated[
        str,
        Meta(
            description="What the QR code says: SHA-1, six digits, 30 seconds (RFC 6238).",
            examples=[
                "otpauth://totp/Backend%20API:alice?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Backend%20API"
            ],
        ),
    ]
    qr: Annotated[str, Meta(description="A QR code, as an SVG.", examples=["<svg ...></svg>"])]


class TotpConfirmation(Struct, forbid_unknown_fields=True):
    """The first code of an app."""

    code: Code


class RecoveryCodes(Struct):
    """Codes that sign in once each, without the app; they are shown this once."""

    recovery_codes: Annotated[list[str], Meta(examples=[["mzxw-6ytb-oi5d-4lv7-pnsw-24tb"]])]


class TotpRead(Struct):
    """An authenticator app that is a second factor."""

    created_at: Annotated[datetime, Meta(description="When it was confirmed.", examples=["2026-01-31T12:00:00Z"])]


class PasskeyRead(Struct):
    """A passkey as its owner sees it."""

    id: RowId
    name: Annotated[str, Meta(examples=["Telephone"])]
    created_at: Annotated[datetime, Meta(examples=["2026-01-31T12:00:00.123456Z"])]
    last_used_at: Annotated[datetime | None, Meta(description="When it last signed in.", examples=[None])]
    backed_up: Annotated[bool, Meta(description="Whether its maker's cloud has a copy.", examples=[True])]


class FactorsRead(Struct):
    """Your second factors."""

    totp: Annotated[TotpRead | None, Meta(examples=[{"created_at": "2026-01-31T12:00:00Z"}])]
    recovery_codes_left: Annotated[int, Meta(description="Of the ten.", examples=[9])]
    passkeys: Annotated[list[PasskeyRead], Meta(examples=[[]])]


class Proof(Struct, forbid_unknown_fields=True):
    """A proof of who you are: the password, with a code where there is a second factor; or a passkey alone."""

    password: CurrentPassword | UnsetType = UNSET
    otp: Code | UnsetType = UNSET
    credential: (
        Annotated[
            SignedCredential,
            Meta(
                description="A signature of a challenge that `POST /passkeys/options` gave in this session.",
                examples=[EXAMPLE | {"response": SIGNED}],
            ),
        ]
        | UnsetType
    ) = UNSET
