"""Proofs within a session, on the wire: they take what other features and passkeys take."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from app.auth.schemas import CurrentPassword
from app.factors.passkeys.schemas import EXAMPLE, SIGNED, SignedCredential
from app.factors.schemas import Code


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
