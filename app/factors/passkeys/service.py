"""The rules of passkeys: made by a device for an account, named, and removed."""

from app.auth.caller import Caller, SignedIn
from app.auth.repository import SessionRepository
from app.database.sessions import retry_on_deadlock
from app.errors import Conflict, InvalidField, InvalidFields, NotFound
from app.factors.jobs import PASSKEY_ADDED, PASSKEY_REMOVED, FactorMails
from app.factors.passkeys.challenges import ENROLMENT, Challenges
from app.factors.passkeys.relying_party import RelyingParty, UnverifiedError, challenge_of
from app.factors.passkeys.repository import NewPasskey, PasskeyRepository
from app.factors.passkeys.schemas import CreationOptions, PasskeyCreate
from app.factors.policy import MFA, Policy
from app.factors.schemas import PasskeyRead
from app.security.events import Events

MAX_PASSKEYS = 20
PASSKEY = "pop user mfa"
"""The methods of a sign-in by passkey: a key that was proved to be there, and its user's presence (RFC 8176)."""
REMOVED_PASSKEY = "pop user"


class TooManyPasskeys(Conflict):
    """The account has as many passkeys as one may have."""

    detail = "Too many passkeys"


class PasskeyNotFound(NotFound):
    """The account has no such passkey."""

    detail = "Passkey not found"


class UnverifiedPasskey(InvalidFields):
    """The new key doesn't answer a challenge of this session, or not as it must."""

    def __init__(self) -> None:
        super().__init__(InvalidField("/credential", "doesn't verify"))


class PasskeyService:
    """The service that adds, renames and removes passkeys."""

    def __init__(
        self,
        party: RelyingParty,
        passkeys: PasskeyRepository,
        challenges: Challenges,
        sessions: SessionRepository,
        mails: FactorMails,
        policy: Policy,
        events: Events,
    ) -> None:
        self.party = party
        self.passkeys = passkeys
        self.challenges = challenges
        self.sessions = sessions
        self.mails = mails
        self.policy = policy
        self.events = events

    async def creation_options(self, user: SignedIn) -> CreationOptions:
        """Return what a device needs to make a key. Raise TooManyPasskeys and SecondFactorNeeded."""
        await self.policy.check_change(user)
        known = await self.passkeys.credentials_of(user.id)
        if len(known) >= MAX_PASSKEYS:
            raise TooManyPasskeys
        challenge = self.challenges.new(ENROLMENT, user.session_id)
        return self.party.creation_options(user.id, user.username, challenge, known)

    async def add(self, user: SignedIn, caller: Caller, data: PasskeyCreate) -> PasskeyRead:
        """Add a key that a device has made; the session, in which its owner has just used it, gets its level.

        Raise UnverifiedPasskey, KeyTaken, TooManyPasskeys and SecondFactorNeeded, and InvalidCredentials when the
        session has ended meanwhile.
        """
        await self.policy.check_change(user)
        try:
            challenge = challenge_of(data.credential.response.client_data)
            key = self.party.verify_new(data.credential, challenge)
        except UnverifiedError:
            raise UnverifiedPasskey from None
        if not await self.challenges.spend(challenge, ENROLMENT, user.session_id):
            raise UnverifiedPasskey
        return await self._add(caller, data.name, key, raises_level=MFA not in user.amr.split())

    @retry_on_deadlock
    async def _add(self, caller: Caller, name: str, key: NewPasskey, *, raises_level: bool) -> PasskeyRead:
        async with self.passkeys.database.transaction() as transaction:
            await self.sessions.lock_caller(transaction, caller)
            if await self.passkeys.count_of_user(transaction, caller.id) >= MAX_PASSKEYS:
                raise TooManyPasskeys
            added = await self.passkeys.add(transaction, caller.id, name, key)
            if raises_level:
                await self.sessions.set_amr(transaction, caller.session_id, PASSKEY)
            await self.mails.enqueue(transaction, PASSKEY_ADDED, caller.id)
            await caller.record(self.events, transaction, "passkey_added", passkey_id=added.id)
        return added

    async def rename(self, user_id: int, passkey_id: int, name: str) -> PasskeyRead:
        """Give a passkey another name. Raise PasskeyNotFound."""
        renamed = await self.passkeys.rename(user_id, passkey_id, name)
        if renamed is None:
            raise PasskeyNotFound
        return renamed

    @retry_on_deadlock
    async def remove(self, user: SignedIn, caller: Caller, passkey_id: int) -> None:
        """Remove a passkey; sessions that were signed in by any passkey lose that level.

        Raise PasskeyNotFound and SecondFactorNeeded, and InvalidCredentials when the session has ended meanwhile.
        """
        await self.policy.check_change(user)
        async with self.passkeys.database.transaction() as transaction:
            # What is exchanged for a session meanwhile would keep the level of the passkey.
            await self.sessions.lock_caller(transaction, caller)
            if not await self.passkeys.remove_key(transaction, caller.id, passkey_id):
                raise PasskeyNotFound
            await self.sessions.replace_amr(transaction, caller.id, PASSKEY, REMOVED_PASSKEY)
            await self.mails.enqueue(transaction, PASSKEY_REMOVED, caller.id)
            await caller.record(self.events, transaction, "passkey_removed", passkey_id=passkey_id)
