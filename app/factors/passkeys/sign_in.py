"""The rules of a sign-in by passkey, which needs neither a name nor a password."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from app.auth.caller import NO_SESSION, SignedIn
from app.auth.schemas import Token
from app.auth.service import AuthService
from app.auth.sign_in import WrongCredentials
from app.database.sessions import Transaction
from app.errors import OAuthError, TooManyRequests
from app.factors.passkeys.challenges import REAUTHENTICATION, SIGN_IN, Challenges
from app.factors.passkeys.encoding import decoded, encoded
from app.factors.passkeys.relying_party import RelyingParty, Signature, UnverifiedError, challenge_of, handle_of
from app.factors.passkeys.repository import PasskeyRepository, StoredPasskey
from app.factors.passkeys.schemas import NewCredential, RequestOptions, SignedCredential
from app.factors.passkeys.service import PASSKEY
from app.security.applications import Application
from app.security.events import Events, Ids
from app.security.limits import Client, Limits, account_of_id, account_of_name

Credential = TypeVar("Credential", NewCredential, SignedCredential)
UNKNOWN_KEY = account_of_name("no passkey")
"""The name under which signatures by keys that nobody has are counted; no username has a space."""


class WrongPasskey(OAuthError):
    """The key is nobody's, or has not signed a challenge as it must; the client isn't told which."""

    status = 401
    error = "invalid_grant"
    detail = "The passkey could not be verified"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class PasskeyUse(Struct, frozen=True):
    """A signature that was right, of an account's passkey."""

    passkey: StoredPasskey
    signature: Signature


class PasskeySignIn:
    """The service that checks what passkeys have signed, and opens sessions by it."""

    def __init__(
        self,
        party: RelyingParty,
        passkeys: PasskeyRepository,
        challenges: Challenges,
        auth: AuthService,
        limits: Limits,
        events: Events,
    ) -> None:
        self.party = party
        self.passkeys = passkeys
        self.challenges = challenges
        self.auth = auth
        self.limits = limits
        self.events = events

    async def options(self, user: SignedIn | None) -> RequestOptions:
        """Return what a device needs to sign in somebody, or to prove again who the user of a session is."""
        if user is None:
            return self.party.request_options(self.challenges.new(SIGN_IN, NO_SESSION))
        challenge = self.challenges.new(REAUTHENTICATION, user.session_id)
        return self.party.request_options(challenge, await self.passkeys.credentials_of(user.id))

    async def sign_in(
        self, credential: str, client: Client, scope: str | None = None, application: Application | None = None
    ) -> Token:
        """Open a session by what a passkey has signed, given as JSON, and return its tokens.

        Raise InvalidScope, UnauthorizedClient, OAuthError for what is no credential, WrongPasskey, and TooManyRequests.
        """
        scope = self.auth.scope_of_login(scope, application)
        use = await self.check(read_credential(credential, SignedCredential), client)

        async def record_use(transaction: Transaction) -> bool:
            return await self.record_use(transaction, use)

        try:
            return await self.auth.open_session(
                use.passkey.user_id, client, scope=scope, amr=PASSKEY, application=application, proof=record_use
            )
        except WrongCredentials:  # The account is disabled, or account or key are gone by now.
            raise WrongPasskey from None

    async def check(self, credential: SignedCredential, client: Client, user: SignedIn | None = None) -> PasskeyUse:
        """Return the passkey by which a challenge was signed, and spend the challenge.

        It was one for a sign-in, or one for the session of a user, whose the key must be then. A wrong signature counts
        as a failed login. Raise WrongPasskey and TooManyRequests.
        """
        uses: list[PasskeyUse] = []
        stored = await self.passkeys.find(raw_id_of(credential))
        owner = stored.user_id if stored else None

        async def verify() -> bool:
            if stored and (user is None or user.id == stored.user_id):
                uses.extend(await self._verify(credential, stored, user))
            return bool(uses)

        account = account_of_id(owner) if owner else UNKNOWN_KEY
        try:
            matches = await self.limits.verify_within_limits(verify, account=account, network=client.network)
        except TooManyRequests:
            await self.events.record_alone("login_limited", client, user_id=owner)
            raise
        if not matches:
            await self.events.record_alone_of("login_failed", client, Ids(owner), {"factor": "passkey"})
            raise WrongPasskey
        return uses[0]

    async def _verify(
        self, credential: SignedCredential, stored: StoredPasskey, user: SignedIn | None
    ) -> list[PasskeyUse]:
        """Return the use of a key; nothing when the signature is wrong, or the challenge isn't good any more."""
        purpose, session_id = (REAUTHENTICATION, user.session_id) if user else (SIGN_IN, NO_SESSION)
        handle = credential.response.user_handle
        # A device may leave the account out only where it was told which keys to use (WebAuthn, section 7.2).
        if handle != encoded(handle_of(stored.user_id)) and (handle or not user):
            return []
        try:
            challenge = challenge_of(credential.response.client_data)
            use = PasskeyUse(stored, self.party.verify(credential, challenge, stored))
        except UnverifiedError:
            return []
        return [use] if await self.challenges.spend(challenge, purpose, session_id) else []

    async def record_use(self, transaction: Transaction, use: PasskeyUse) -> bool:
        """Record the use of a key; return False when the key is gone, or a later signature was counted."""
        signature = use.signature
        return await self.passkeys.use(transaction, use.passkey.id, signature.count, backed_up=signature.backed_up)


def read_credential(text: str, kind: type[Credential]) -> Credential:
    """Return a new or a signed credential from its JSON. Raise OAuthError."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise OAuthError("credential is not what a passkey returns, as JSON") from None


def raw_id_of(credential: SignedCredential) -> bytes:
    """Return the bytes by which the device knows the key; none where they can't be read."""
    try:
        return decoded(credential.raw_id)
    except ValueError:
        return b""
