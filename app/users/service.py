"""The rules of accounts: registration, changes, superusers' rights, and the verification of e-mail addresses."""

from datetime import timedelta

from limits import RateLimitItem
from msgspec import UNSET

from app.auth.access import Access
from app.auth.caller import Caller, SignedIn
from app.auth.credentials import CredentialService, WrongPassword
from app.database.models import now
from app.database.pages import Page, PageQuery
from app.database.sessions import Transaction, retry_on_deadlock
from app.errors import BadRequest, Conflict, Forbidden
from app.jobs.mailboxes import NOTICES, MailQueue, Quota
from app.jobs.models import Payload
from app.security.events import Events
from app.security.limits import EMAIL_VERIFICATIONS, EMAIL_VERIFICATIONS_PER_NETWORK, Client, Limits
from app.security.tokens import VERIFICATION, InvalidTokenError, Tokens, fingerprint
from app.users.models import User, address_key, name_key, normalise_email
from app.users.repository import FormerAddressRepository, UserRepository
from app.users.schemas import RightsUpdate, UserCreate, UserRead, UserUpdate

VERIFICATION_LIFETIME = timedelta(hours=24)
VERIFICATION_MAIL = "verification_mail"
ADDRESS_CHANGED_MAIL = "address_changed_mail"


class RegistrationClosed(Forbidden):
    """The operator has closed registration."""

    detail = "Registration is closed"


class LastSuperuser(Conflict):
    """The account is the last active superuser's, without which nobody could administer the service."""

    detail = "The last superuser can't be disabled, demoted or deleted"


class InvalidVerificationToken(BadRequest):
    """The token is forged, used or too old, or the address has been changed since it was mailed."""

    detail = "The token is invalid, expired or used"


class UserService:
    """The service that creates, changes and deletes accounts.

    It opens its own transactions, since no password may be hashed inside one.
    """

    def __init__(
        self,
        users: UserRepository,
        former: FormerAddressRepository,
        access: Access,
        credentials: CredentialService,
        mails: MailQueue,
        events: Events,
        *,
        registrations: RateLimitItem | None,
        undo_days: int,
    ) -> None:
        """`registrations` limits those of one client network; with None, registration is closed.

        A change of a confirmed address can be undone for `undo_days`.
        """
        self.database = users.database
        self.users = users
        self.former = former
        self.access = access
        self.credentials = credentials
        self.mails = mails
        self.events = events
        self.registrations = registrations
        self.undo_days = undo_days

    async def register(self, data: UserCreate, client: Client) -> User:
        """Create an account for anybody. Raise RegistrationClosed, TooManyRequests, and the errors of `create`."""
        if self.registrations is None:
            raise RegistrationClosed
        await self.credentials.limits.hit(self.registrations, client.network)
        return await self.create(data, client)

    async def create(self, data: UserCreate, client: Client | None = None, *, is_superuser: bool = False) -> User:
        """Create an account. Raise NameTaken, also for the later of two at the same instant, and InvalidFields.

        Without a client, an operator creates it.
        """
        email = normalise_email(data.email)
        user = User(
            username=data.username,
            username_key=name_key(data.username),
            email=email,
            email_key=address_key(email),
            hashed_password=await self.credentials.hash_new(data.password, username=data.username, email=email),
            is_superuser=is_superuser,
        )
        async with self.database.transaction() as transaction:
            await self.users.create(transaction, user)
            await self.former.check(transaction, user)
            await self.mails.enqueue(transaction, VERIFICATION_MAIL, {"user_id": user.id}, notices(user))
            actor_id = user.id if client else None
            await self.events.record(
                transaction, "registration", client, user_id=user.id, actor_id=actor_id, is_superuser=is_superuser
            )
        return user

    async def get_user(self, user_id: int) -> UserRead:
        """Return one account. Raise UserNotFound."""
        return await self.users.read(user_id)

    async def page(self, query: PageQuery) -> Page[UserRead]:
        """Return one page of all accounts."""
        return await self.users.page_of_all(query)

    @retry_on_deadlock
    async def update(self, caller: Caller, data: UserUpdate) -> User:
        """Change the caller's name or address.

        Raise NameTaken, UserNotFound, InvalidFields and, for a new address, WrongPassword and TooManyRequests.
        """
        email = UNSET if data.email is UNSET else normalise_email(data.email)
        checked = ""
        if email is not UNSET and email != (await self.users.read(caller.id)).email:
            if not data.current_password:  # An absent password isn't hashed, and counts as no failed login.
                raise WrongPassword
            checked = (await self.credentials.check_password(caller, data.current_password)).hashed_password
        async with self.database.transaction() as transaction:
            user = await self.users.to_change(transaction, caller.id)
            if data.username is not UNSET:
                user.username, user.username_key = data.username, name_key(data.username)
                await self.users.save(transaction)
            if email is not UNSET and email != user.email:
                if user.hashed_password != checked:  # address or password were changed since they were read above
                    raise WrongPassword
                await self.change_address(transaction, user, email)
                await caller.record(self.events, transaction, "address_changed")
        return user

    async def change_address(self, transaction: Transaction, user: User, email: str) -> None:
        """Give an account another address, keep a confirmed one for its undo, and tell both. Raise NameTaken."""
        told: Payload = {"user_id": user.id, "old_address": user.email}
        old_quota = notices(user)
        if user.email_verified and self.undo_days:
            expires_at = now() + timedelta(days=self.undo_days)
            told["former_id"] = await self.former.keep(transaction, user, expires_at)
        user.email, user.email_key, user.email_verified = email, address_key(email), False
        user.email_version += 1
        await self.users.save(transaction)
        await self.former.check(transaction, user)
        await self.mails.enqueue(transaction, ADDRESS_CHANGED_MAIL, told, old_quota)
        await self.mails.enqueue(transaction, VERIFICATION_MAIL, {"user_id": user.id}, notices(user))

    @retry_on_deadlock
    async def set_rights(self, user_id: int, data: RightsUpdate, *, by: Caller) -> User:
        """Disable (which ends all access), enable, promote or demote a user. Raise UserNotFound and LastSuperuser."""
        async with self.database.transaction() as transaction:
            if data.is_active is False or data.is_superuser is False:
                await self.protect_last_superuser(transaction, user_id)
            user = await self.users.to_change(transaction, user_id)
            old = (user.is_active, user.is_superuser)
            user.is_active = user.is_active if data.is_active is UNSET else data.is_active
            user.is_superuser = user.is_superuser if data.is_superuser is UNSET else data.is_superuser
            if not user.is_active:
                # Before the sessions end, so that a login at the same time either came earlier or sees the change.
                await self.users.save(transaction)
                await self.access.end(transaction, user_id)
            rights = {"is_active": user.is_active, "is_superuser": user.is_superuser}
            if tuple(rights.values()) != old:
                await by.record(self.events, transaction, "rights_changed", user_id=user_id, **rights)
        return user

    @retry_on_deadlock
    async def delete(self, user_id: int, *, by: Caller) -> None:
        """Delete an account with all that belongs to it. Raise UserNotFound and LastSuperuser.

        Its events stay, that of the deletion too, and lose their addresses.
        """
        async with self.database.transaction() as transaction:
            await self.protect_last_superuser(transaction, user_id)
            await self.users.remove(transaction, await self.users.to_change(transaction, user_id))
            await by.record(self.events, transaction, "account_deleted", user_id=user_id)
            await self.events.forget(transaction, user_id)

    async def protect_last_superuser(self, transaction: Transaction, user_id: int) -> None:
        """Raise LastSuperuser when the user is the only active superuser; lock all of them."""
        if await self.users.lock_superusers(transaction) == [user_id]:
            raise LastSuperuser


class VerificationService:
    """The service by which users verify their e-mail addresses."""

    def __init__(
        self,
        users: UserRepository,
        former: FormerAddressRepository,
        tokens: Tokens,
        limits: Limits,
        mails: MailQueue,
        events: Events,
    ) -> None:
        self.database = users.database
        self.users = users
        self.former = former
        self.tokens = tokens
        self.limits = limits
        self.mails = mails
        self.events = events

    async def request(self, user: SignedIn, client: Client) -> None:
        """Enqueue another mail with a token to a user's address, unless it is verified. Raise TooManyRequests."""
        await self.limits.hit(EMAIL_VERIFICATIONS_PER_NETWORK, client.network)
        await self.limits.hit(EMAIL_VERIFICATIONS, address_key(user.email))
        if user.email_verified:
            return
        async with self.database.transaction() as transaction:
            await self.mails.enqueue(transaction, VERIFICATION_MAIL, {"user_id": user.id}, notices(user))

    async def verify(self, token: str, client: Client) -> None:
        """Mark the address to which a token was mailed as verified. Raise InvalidVerificationToken.

        If the account had left that address before, this is the way back by hand, and ends what an undo would have
        ended: the address of a thief, who had confirmed it meanwhile, can't be put back any more.
        """
        try:
            claims = self.tokens.read(VERIFICATION, token)
        except InvalidTokenError:
            raise InvalidVerificationToken from None
        async with self.database.transaction() as transaction:
            user = await self.users.find_to_change(transaction, claims.user_id)
            if user is None or not user.is_active or address_state(user.email, user.email_version) != claims.state:
                raise InvalidVerificationToken
            user.email_verified = True
            user.email_version += 1
            await self.former.forget_since_return(transaction, user)
            await self.events.record(transaction, "address_verified", client, user_id=user.id, actor_id=user.id)


def notices(user: User | SignedIn) -> Quota:
    """Return the quota of mails that tell a user of their account."""
    return Quota.of(NOTICES, address_key(user.email), user.id, confirmed=user.email_verified)


def address_state(email: str, email_version: int) -> str:
    """Return what a verification token is bound to: the very address that it was mailed to, until that is verified."""
    return fingerprint(f"{email_version} {email}")
