"""The rules of passwords: they are checked, changed, and reset by a mailed token."""

from datetime import timedelta
from functools import partial

from app.auth.access import Access
from app.auth.caller import Caller
from app.auth.repository import CredentialRepository, StoredCredentials
from app.database.sessions import Transaction, retry_on_deadlock
from app.errors import BadRequest, Forbidden, NotFound
from app.jobs.mailboxes import NOTICES, MailQueue, Quota
from app.jobs.models import Payload
from app.security.events import Events, Ids
from app.security.limits import PASSWORD_RESETS, PASSWORD_RESETS_PER_NETWORK, Client, Limits, account_of_id
from app.security.password_policy import PasswordPolicy
from app.security.passwords import Passwords
from app.security.tokens import RESET, InvalidTokenError, Tokens, fingerprint
from app.users.models import address_key, normalise_email

RESET_LIFETIME = timedelta(minutes=10)
RESET_MAIL = "password_reset_mail"
RESET_LINK_MAIL = "password_reset_link_mail"
CHANGED_MAIL = "password_changed_mail"


class UserNotFound(NotFound):
    """No user has that id."""

    detail = "User not found"


class WrongPassword(Forbidden):
    """The current password is wrong or missing."""

    detail = "The current password is wrong"


class InvalidResetToken(BadRequest):
    """The token is forged, used or expired, or the password or address has changed since it was mailed."""

    detail = "The token is invalid, expired or used"


def reset_state(user: StoredCredentials) -> str:
    """Return what a reset token is bound to: the password that it replaces, and the address that it was mailed to."""
    return fingerprint(f"{user.hashed_password} {user.email}")


def mail_quota(cause: str, user: StoredCredentials) -> Quota:
    """Return the quota of mails to a user for one cause."""
    return Quota.of(cause, address_key(user.email), user.id, confirmed=user.email_verified)


class CredentialService:
    """The service that checks and sets passwords; it opens its own transactions, since none may span a hash."""

    def __init__(
        self,
        credentials: CredentialRepository,
        access: Access,
        passwords: Passwords,
        policy: PasswordPolicy,
        tokens: Tokens,
        limits: Limits,
        mails: MailQueue,
        events: Events,
    ) -> None:
        self.database = credentials.database
        self.credentials = credentials
        self.access = access
        self.passwords = passwords
        self.policy = policy
        self.tokens = tokens
        self.limits = limits
        self.mails = mails
        self.events = events

    async def hash_new(self, password: str, *, username: str, email: str) -> str:
        """Return the hash of a new account's password. Raise InvalidFields when the policy refuses it."""
        await self.check_new(password, username=username, email=email, pointer="/password")
        return await self.passwords.hash(password)

    async def check_new(self, password: str, *, username: str, email: str, pointer: str) -> None:
        """Raise InvalidFields, at `pointer`, when the policy refuses a new password."""
        await self.passwords.run(partial(self.policy.check, password, username=username, email=email, pointer=pointer))
        await self.policy.check_breaches(password, pointer=pointer)

    async def check_password(self, caller: Caller, password: str) -> StoredCredentials:
        """Return the caller's credentials if the password is right.

        Raise WrongPassword, which counts as a failed login, TooManyRequests and UserNotFound.
        """
        user = await self.credentials.by_id(caller.id)
        if user is None:
            raise UserNotFound
        verify = partial(self.passwords.verify, user.hashed_password, password)
        if not await self.limits.verify_within_limits(
            verify, account=account_of_id(user.id), network=caller.client.network
        ):
            await caller.record_alone(self.events, "password_refused")
            raise WrongPassword
        return user

    async def change(self, caller: Caller, current: str, new: str) -> None:
        """Set a new password and end every other session; tokens of other kinds stay.

        Raise WrongPassword, TooManyRequests, UserNotFound and InvalidFields.
        """
        user = await self.check_password(caller, current)
        if not await self._set(user, new, caller.client, keep_session=caller.session_id):
            raise WrongPassword  # Another request has just changed it.

    async def request_reset(self, transaction: Transaction, address: str, client: Client) -> None:
        """Enqueue a mail with a token to the account with that address, if there is one.

        Raise InvalidFields for anything but an e-mail address, and TooManyRequests. Requests are counted by address and
        client network together, so that a stranger's don't keep the owner from asking elsewhere. The job that looks for
        the account counts its mails.
        """
        email = normalise_email(address)
        await self.limits.hit(PASSWORD_RESETS_PER_NETWORK, client.network)
        await self.limits.hit(PASSWORD_RESETS, address_key(email), client.network)
        await self.mails.jobs.enqueue(transaction, RESET_MAIL, {"email": email})
        await self.events.record(transaction, "password_reset_requested", client)

    async def reset(self, token: str, new: str, client: Client) -> None:
        """Set a new password by a mailed token, and end every session and token.

        Raise InvalidResetToken and InvalidFields.
        """
        try:
            await self._reset(token, new, client)
        except InvalidResetToken:
            await self.events.record_alone("password_reset_failed", client)
            raise

    async def _reset(self, token: str, new: str, client: Client) -> None:
        """Set the password of the user for whom the token was issued."""
        try:
            claims = self.tokens.read(RESET, token)
        except InvalidTokenError:
            raise InvalidResetToken from None
        user = await self.credentials.by_id(claims.user_id)
        if user is None or not user.is_active or reset_state(user) != claims.state:
            raise InvalidResetToken
        if not await self._set(user, new, client, keep_session=None):
            raise InvalidResetToken

    async def _set(self, user: StoredCredentials, new: str, client: Client, *, keep_session: int | None) -> bool:
        """Replace the password that the user has there; False when it was changed meanwhile.

        End all access to the account, or with a session to keep, which changes the password, all other sessions.
        """
        await self.check_new(new, username=user.username, email=user.email, pointer="/new_password")
        return await self._store(user, await self.passwords.hash(new), client, keep_session)

    @retry_on_deadlock
    async def _store(self, user: StoredCredentials, hashed: str, client: Client, keep_session: int | None) -> bool:
        async with self.database.transaction() as transaction:
            if not await self.credentials.replace_hash(user.id, user.hashed_password, hashed, transaction):
                return False
            if keep_session is None:
                await self.access.end(transaction, user.id)
            else:
                await self.access.sessions.end_all(transaction, user.id, but=keep_session)
            told: Payload = {"user_id": user.id, "address": user.email}
            await self.mails.enqueue(transaction, CHANGED_MAIL, told, mail_quota(NOTICES, user))
            event = "password_reset" if keep_session is None else "password_changed"
            await self.events.record_of(transaction, event, client, Ids(user.id, user.id, keep_session))
        return True
