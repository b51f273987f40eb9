"""The rules of authenticator apps and recovery codes: enrolled, asked for at sign-ins, and removed."""

from collections.abc import Iterator
from time import time

import structlog

from app.auth.caller import Caller, SignedIn
from app.auth.repository import SessionRepository
from app.database.sessions import Transaction, retry_on_deadlock
from app.errors import Conflict, NotFound
from app.factors.codes import (
    is_of_app,
    matching_steps,
    new_recovery_codes,
    new_secret,
    otpauth_uri,
    plain,
    qr_code,
)
from app.factors.jobs import CODES_REPLACED, TOTP_ADDED, TOTP_REMOVED, FactorMails
from app.factors.policy import MFA, Policy
from app.factors.repository import FactorRepository, StoredTotp
from app.factors.schemas import TotpSecret
from app.factors.wrong_codes import WrongCodes
from app.security.encryption import Encryption, UndecryptableError
from app.security.events import Events, Ids
from app.security.limits import Client
from app.security.random_tokens import digest
from app.security.second_step import MfaRequired, WrongCode

PASSWORD = "pwd"  # noqa: S105 - the name of a method
PASSWORD_AND_CODE = "pwd otp mfa"  # noqa: S105 - names of methods
log = structlog.stdlib.get_logger()


class TotpActive(Conflict):
    """The account has an authenticator app already; it is removed first."""

    detail = "An authenticator app is active already"


class NothingPending(Conflict):
    """No secret waits for its first code."""

    detail = "No authenticator app waits for its first code"


class NoSecondFactor(NotFound):
    """The account has no authenticator app."""

    detail = "There is no second factor"


class TotpService:
    """The service that enrols, checks and removes authenticator apps and recovery codes."""

    def __init__(
        self,
        factors: FactorRepository,
        sessions: SessionRepository,
        encryption: Encryption,
        wrong_codes: WrongCodes,
        mails: FactorMails,
        policy: Policy,
        events: Events,
        *,
        issuer: str,
    ) -> None:
        """`issuer` is what apps call the service."""
        self.factors = factors
        self.sessions = sessions
        self.encryption = encryption
        self.wrong_codes = wrong_codes
        self.mails = mails
        self.policy = policy
        self.events = events
        self.issuer = issuer

    async def begin(self, user: SignedIn) -> TotpSecret:
        """Return a new secret, which is pending, in the place of one that was.

        Raise TotpActive and SecondFactorNeeded.
        """
        await self.policy.check_change(user)
        secret = new_secret()
        if not await self.factors.begin(user.id, self.encryption.encrypt(secret.encode(), context(user.id))):
            raise TotpActive
        uri = otpauth_uri(secret, user.username, self.issuer)
        return TotpSecret(secret=secret, uri=uri, qr=qr_code(uri))

    async def confirm(self, user: SignedIn, caller: Caller, code: str) -> list[str]:
        """Make the pending secret a second factor, end every other session, and return recovery codes.

        The session gets the level of the new factor. The policy is asked again: since the secret was made, another
        session may have added a passkey. Raise SecondFactorNeeded, NothingPending, WrongCode and TooManyRequests, and
        InvalidCredentials when this session has ended meanwhile.
        """
        await self.policy.check_change(user)
        stored = await self.factors.find(caller.id)
        if stored is None or stored.confirmed_at is not None:
            raise NothingPending
        await self.wrong_codes.check(caller.id)
        step = next(self._steps(caller.id, stored, plain(code)), None)
        if step is None:
            await self.wrong_codes.count(caller.id)
            await caller.record_alone(self.events, "code_refused")
            raise WrongCode
        return await self._confirm(caller, stored, step, raises_level=MFA not in user.amr.split())

    @retry_on_deadlock
    async def _confirm(self, caller: Caller, stored: StoredTotp, step: int, *, raises_level: bool) -> list[str]:
        async with self.factors.database.transaction() as transaction:
            await self.sessions.lock_caller(transaction, caller)
            await self.factors.mark(transaction, caller.id, has=True)
            if not await self.factors.confirm(transaction, caller.id, stored.secret, step):
                raise NothingPending
            codes = await self._new_codes(transaction, caller.id)
            await self.sessions.end_all(transaction, caller.id, but=caller.session_id)
            if raises_level:
                await self.sessions.set_amr(transaction, caller.session_id, PASSWORD_AND_CODE)
            await self.mails.enqueue(transaction, TOTP_ADDED, caller.id)
            await caller.record(self.events, transaction, "totp_added")
        return codes

    async def replace_codes(self, user: SignedIn, caller: Caller) -> list[str]:
        """Return new recovery codes; the old ones are void.

        Raise NoSecondFactor and SecondFactorNeeded, and InvalidCredentials when the session has ended meanwhile.
        """
        await self.policy.check_change(user)
        async with self.factors.database.transaction() as transaction:
            await self.sessions.lock_caller(transaction, caller)
            if not await self.factors.has_app(transaction, caller.id):
                raise NoSecondFactor
            codes = await self._new_codes(transaction, caller.id)
            await self.mails.enqueue(transaction, CODES_REPLACED, caller.id)
            await caller.record(self.events, transaction, "recovery_codes_replaced")
        return codes

    async def _new_codes(self, transaction: Transaction, user_id: int) -> list[str]:
        codes = new_recovery_codes()
        await self.factors.replace_codes(transaction, user_id, [digest(plain(code)) for code in codes])
        return codes

    @retry_on_deadlock
    async def remove(self, user: SignedIn, caller: Caller) -> None:
        """Remove the app and its recovery codes; sessions that proved them lose that level.

        Raise NoSecondFactor and SecondFactorNeeded, and InvalidCredentials when the session has ended meanwhile.
        """
        await self.policy.check_change(user)
        async with self.factors.database.transaction() as transaction:
            await self.sessions.lock_caller(transaction, caller)
            if not await self.factors.mark(transaction, caller.id, has=False):
                raise NoSecondFactor
            await self.factors.remove_totp(transaction, caller.id)
            await self.sessions.replace_amr(transaction, caller.id, PASSWORD_AND_CODE, PASSWORD)
            await self.mails.enqueue(transaction, TOTP_REMOVED, caller.id)
            await caller.record(self.events, transaction, "totp_removed")

    async def check(self, user_id: int, otp: str | None, client: Client) -> str:
        """Spend the code of a user whose password was right, and return what is proved then; it is a SecondStep."""
        await self.wrong_codes.check(user_id)
        if not otp:
            raise MfaRequired
        if not await self.spend(user_id, plain(otp), client):
            await self.wrong_codes.count(user_id)
            raise WrongCode
        # A right one among very many at once is refused, too, when the limit was used up meanwhile.
        await self.wrong_codes.check(user_id)
        return PASSWORD_AND_CODE

    async def spend(self, user_id: int, code: str, client: Client) -> bool:
        """Spend a plain code of the app, or a recovery code; return False when it is wrong or was spent before."""
        if not is_of_app(code):
            return await self._spend_recovery_code(user_id, code, client)
        stored = await self.factors.find(user_id)
        if stored is None:
            return False
        for step in self._steps(user_id, stored, code):
            if await self.factors.spend_step(user_id, step):
                await self._encrypt_anew(user_id, stored)
                return True
        return False

    async def _spend_recovery_code(self, user_id: int, code: str, client: Client) -> bool:
        async with self.factors.database.transaction() as transaction:
            spent = await self.factors.spend_code(transaction, user_id, digest(code))
            if spent:
                await self.events.record_of(transaction, "recovery_code_used", client, Ids(user_id, user_id))
        return spent

    def _steps(self, user_id: int, stored: StoredTotp, code: str) -> Iterator[int]:
        """Return the accepted steps whose code this is; none where no key decrypts the secret, which is logged."""
        try:
            secret = self.encryption.decrypt(stored.secret, context(user_id)).secret.decode()
        except UndecryptableError:
            log.error("totp secret unreadable", user_id=user_id)  # noqa: TRY400 - the traceback says no more
            return iter(())
        return matching_steps(secret, code, time())

    async def _encrypt_anew(self, user_id: int, stored: StoredTotp) -> None:
        """Encrypt by the present key what the previous one has encrypted."""
        decrypted = self.encryption.decrypt(stored.secret, context(user_id))
        if decrypted.is_outdated:
            anew = self.encryption.encrypt(decrypted.secret, context(user_id))
            await self.factors.replace_secret(user_id, stored.secret, anew)


def context(user_id: int) -> bytes:
    """Return what a user's secret is encrypted for: this user alone."""
    return f"user {user_id}".encode()
