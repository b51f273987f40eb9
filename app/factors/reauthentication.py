"""The rules of a proof within a session: its user shows again who they are, and the session is fresh (RFC 9470)."""

from app.auth.caller import Caller, InvalidCredentials, SignedIn
from app.auth.credentials import CredentialService, UserNotFound, WrongPassword
from app.auth.repository import SessionRepository
from app.database.sessions import Transaction, retry_on_deadlock
from app.errors import Forbidden
from app.factors.passkeys.schemas import SignedCredential
from app.factors.passkeys.service import PASSKEY
from app.factors.passkeys.sign_in import PasskeySignIn, PasskeyUse, WrongPasskey
from app.factors.policy import MFA
from app.factors.service import PASSWORD, TotpService
from app.security.events import Events
from app.security.second_step import WrongCode


class WrongProof(Forbidden):
    """The password, the code or the passkey is wrong; the client isn't told which."""

    detail = "The proof is wrong"


class Reauthentication:
    """The service that makes sessions fresh; a proof of two factors also gives a session the level of both."""

    def __init__(
        self,
        credentials: CredentialService,
        totp: TotpService,
        passkeys: PasskeySignIn,
        sessions: SessionRepository,
        events: Events,
    ) -> None:
        self.credentials = credentials
        self.totp = totp
        self.passkeys = passkeys
        self.sessions = sessions
        self.events = events

    async def by_password(self, user: SignedIn, caller: Caller, password: str, otp: str | None) -> None:
        """Take the password and, where the account has a second factor, a code.

        Raise WrongProof, which counts as a failed login or as a wrong code, MfaRequired and TooManyRequests.
        """
        try:
            account = await self.credentials.check_password(caller, password)
            has_factor = await self.totp.factors.has_any(user.id)
            amr = await self.totp.check(user.id, otp, caller.client) if has_factor else PASSWORD
        except WrongCode:
            await caller.record_alone(self.events, "proof_refused", factor="otp")
            raise WrongProof from None
        except (WrongPassword, UserNotFound):
            raise WrongProof from None
        await self._by_password(user, caller, account.hashed_password, amr, second_factor=account.second_factor)

    @retry_on_deadlock
    async def _by_password(
        self, user: SignedIn, caller: Caller, hashed_password: str, amr: str, *, second_factor: bool
    ) -> None:
        async with self.sessions.database.transaction() as transaction:
            # A password or a factor that has changed meanwhile proves nothing.
            credentials = self.credentials.credentials
            if not await credentials.lock_active(transaction, user.id, hashed_password, second_factor=second_factor):
                raise WrongProof
            await self._prove(transaction, user, caller, amr)

    async def by_passkey(self, user: SignedIn, caller: Caller, credential: SignedCredential) -> None:
        """Take what a passkey has signed of a challenge of this session. Raise as `by_password` does."""
        try:
            use = await self.passkeys.check(credential, caller.client, user)
        except WrongPasskey:
            raise WrongProof from None
        await self._by_passkey(user, caller, use)

    @retry_on_deadlock
    async def _by_passkey(self, user: SignedIn, caller: Caller, use: PasskeyUse) -> None:
        async with self.sessions.database.transaction() as transaction:
            if not await self.passkeys.record_use(transaction, use):
                raise WrongProof
            await self._prove(transaction, user, caller, PASSKEY)

    async def _prove(self, transaction: Transaction, user: SignedIn, caller: Caller, amr: str) -> None:
        """Make the session fresh; it keeps a level that it has. Raise InvalidCredentials when it has just ended."""
        if not await self.sessions.prove(transaction, user.session_id, user.id):
            raise InvalidCredentials
        if MFA in amr.split() and MFA not in user.amr.split():
            await self.sessions.set_amr(transaction, user.session_id, amr)
        await caller.record(self.events, transaction, "reauthenticated", amr=amr)
