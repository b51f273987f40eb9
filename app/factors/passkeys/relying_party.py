"""The relying party: the service as devices know it, and its checks of what they have signed (WebAuthn)."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Struct

from app.factors.passkeys.encoding import decoded, encoded
from app.factors.passkeys.repository import NewPasskey, StoredPasskey
from app.factors.passkeys.schemas import (
    Algorithm,
    CreationOptions,
    KeyOwner,
    KeyReference,
    KeySelection,
    NewCredential,
    Party,
    RequestOptions,
    SignedCredential,
)
from app.settings import Settings
from app.settings.addresses import as_browsers_write, host_of

# EdDSA, ES256 and RS256 are what devices can do.
ALGORITHMS = (-8, -7, -257)
TIMEOUT_MILLISECONDS = 300_000
LONGEST_ID = 1023
LONGEST_KEY = 2048

log = structlog.stdlib.get_logger("passkeys")


class UnverifiedError(Exception):
    """A device has sent something else than it must."""


class Signature(Struct, frozen=True):
    """A signature that was right: the device's count of them, and whether its maker's cloud has a copy of the key."""

    count: int
    backed_up: bool


class RelyingParty(Struct, frozen=True):
    """The domain for which keys are made, what devices call it, and the origins whose pages may ask for them."""

    id: str
    name: str
    origins: list[str]

    def creation_options(self, user_id: int, username: str, challenge: str, known: Sequence[bytes]) -> CreationOptions:
        """Return the options for a new key: one that a device finds by itself, and lets its owner alone use."""
        return CreationOptions(
            rp=Party(self.id, self.name),
            user=KeyOwner(encoded(handle_of(user_id)), username, username),
            challenge=challenge,
            pub_key_cred_params=[Algorithm("public-key", number) for number in ALGORITHMS],
            timeout=TIMEOUT_MILLISECONDS,
            exclude_credentials=references(known),
            authenticator_selection=KeySelection("required", require_resident_key=True, user_verification="required"),
            attestation="none",
        )

    def request_options(self, challenge: str, allowed: Sequence[bytes] = ()) -> RequestOptions:
        """Return the options for a signature, by one of the keys or, without any, by whichever a device has."""
        return RequestOptions(challenge, TIMEOUT_MILLISECONDS, self.id, references(allowed), "required")

    def verify_new(self, credential: NewCredential, challenge: str) -> NewPasskey:
        """Return a new key that answers a challenge. Raise UnverifiedError."""
        # Imported here since it takes 6.5 MB and 0.14 s, and most processes never see a passkey.
        from webauthn import verify_registration_response  # noqa: PLC0415 - only where it is needed
        from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415 - a large library, for few requests

        given, expected = msgspec.to_builtins(credential), bytes_of(challenge)
        with unverified():
            verified = verify_registration_response(
                credential=given,
                expected_challenge=expected,
                expected_rp_id=self.id,
                expected_origin=self.origins,
                require_user_verification=True,
                supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
            )
        if len(verified.credential_id) > LONGEST_ID or len(verified.credential_public_key) > LONGEST_KEY:
            raise UnverifiedError
        key = (verified.credential_id, verified.credential_public_key, verified.sign_count)
        return NewPasskey(*key, backed_up=verified.credential_backed_up)

    def verify(self, credential: SignedCredential, challenge: str, stored: StoredPasskey) -> Signature:
        """Return a signature of a challenge by a key. Raise UnverifiedError, for a count that hasn't risen, too."""
        from webauthn import verify_authentication_response  # noqa: PLC0415 - as above

        given, expected = msgspec.to_builtins(credential), bytes_of(challenge)
        with unverified():
            verified = verify_authentication_response(
                credential=given,
                expected_challenge=expected,
                expected_rp_id=self.id,
                expected_origin=self.origins,
                credential_public_key=stored.public_key,
                credential_current_sign_count=stored.sign_count,
                require_user_verification=True,
            )
        return Signature(verified.new_sign_count, verified.credential_backed_up)


@contextmanager
def unverified() -> Generator[None]:
    """Raise UnverifiedError for whatever the library raises in the block, and log the type of that.

    By the types an operator tells wrong keys from a library that has changed.
    """
    try:
        yield
    except Exception as error:  # The library also raises whatever its parsers of CBOR, keys and certificates do.
        log.info("passkey_unverified", cause=type(error).__name__)
        raise UnverifiedError from error


class ClientData(Struct):
    """The data of a browser that a device signs, of which the challenge is needed."""

    challenge: str


def relying_party(settings: Settings) -> RelyingParty:
    """Return the relying party of a service: the host of its PUBLIC_URL, or the parent that is set.

    Its pages are those of PUBLIC_URL, and of the CORS_ORIGINS of that domain.
    """
    url = urlsplit(settings.url)
    domain = settings.passkey_domain or host_of(settings.url)
    others = [origin for origin in settings.cors_origins if is_below(host_of(origin), domain)]
    return RelyingParty(domain, settings.pages_title, [as_browsers_write(f"{url.scheme}://{url.netloc}"), *others])


def is_below(host: str, domain: str) -> bool:
    """Return whether a host is a domain or below it."""
    return host == domain or host.endswith(f".{domain}")


def challenge_of(client_data: str) -> str:
    """Return the challenge that client data names. Raise UnverifiedError."""
    try:
        return msgspec.json.decode(decoded(client_data), type=ClientData).challenge
    except (ValueError, RecursionError) as error:
        raise UnverifiedError from error


def bytes_of(challenge: str) -> bytes:
    """Return the bytes of a challenge that client data names. Raise UnverifiedError."""
    try:
        return decoded(challenge)
    except ValueError as error:
        raise UnverifiedError from error


def handle_of(user_id: int) -> bytes:
    """Return the bytes by which devices know an account."""
    return user_id.to_bytes(8)


def references(credential_ids: Sequence[bytes]) -> list[KeyReference]:
    """Return references to keys."""
    return [KeyReference(encoded(credential_id), "public-key") for credential_id in credential_ids]
