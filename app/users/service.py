"""The rules of accounts."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from email_validator import EmailNotValidError, validate_email
from msgspec import UNSET, Struct
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database, again_after_deadlock
from app.errors import BadRequest, Conflict, Forbidden, InvalidField, InvalidFields, NotFound, is_duplicate
from app.jobs import enqueue
from app.limits import Client, Limits
from app.logs import security_event
from app.paging import Listing, Page, PageQuery
from app.policy import PasswordPolicy
from app.security import VERIFICATION, InvalidTokenError, Passwords, Tokens, fingerprint
from app.users.models import User
from app.users.schemas import RightsUpdate, UserCreate, UserRead, UserUpdate

VERIFICATION_LIFETIME = timedelta(hours=24)
VERIFICATION_MAIL = "verification_mail"
ADDRESS_CHANGED_MAIL = "address_changed_mail"


LISTING = Listing(
    User,
    UserRead,
    key=User.id,
    orders=[User.id, User.created_at, User.username],
    searched=[User.username_key, User.email_key],
)


class NameTaken(BadRequest):
    """Somebody has that username or address already, in whatever case."""

    detail = "Username or email already registered"


class RegistrationClosed(Forbidden):
    """The operator lets nobody register."""

    detail = "Registration is closed"


class WrongPassword(Forbidden):
    """The current password is wrong or missing."""

    detail = "The current password is wrong"


class LastSuperuser(Conflict):
    """Without this account nobody could administer the service."""

    detail = "The last superuser can't be disabled, demoted or deleted"


class UserNotFound(NotFound):
    """No user has that id."""

    detail = "User not found"


class InvalidVerificationToken(BadRequest):
    """The token is forged, used or too old, or the address has been changed since it was mailed."""

    detail = "The token is invalid, expired or used"


class Caller(Struct, frozen=True):
    """Who changes something, as the log tells it: a user in one of their sessions, and where they call from."""

    id: int
    session_id: int
    client: Client

    def note(self, event: str, **fields: int) -> None:
        """Log a security event of the caller's; `fields` say what else it is about."""
        who = {"user_id": self.id, "session_id": self.session_id}
        security_event(event, address=self.client.address, **who, **fields)


class UserRepository(SQLAlchemyAsyncRepository[User]):
    """The rows of `users`."""

    model_type = User


class UserService:
    """Registers people, and changes and deletes their accounts.

    It opens its own transactions, since no password may be hashed inside one, and what the log says of a change must
    have been committed.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        tokens: Tokens,
        limits: Limits,
        policy: PasswordPolicy,
        *,
        open_to_all: bool,
    ) -> None:
        """`open_to_all` says whether anybody may register."""
        self.database = database
        self.passwords = passwords
        self.tokens = tokens
        self.limits = limits
        self.policy = policy
        self.open_to_all = open_to_all

    async def register(self, data: UserCreate) -> User:
        """A new account of whoever asks. Raises RegistrationClosed, and what `create` raises."""
        if not self.open_to_all:
            raise RegistrationClosed
        return await self.create(data)

    async def create(self, data: UserCreate, *, is_superuser: bool = False) -> User:
        """A new account. Raises NameTaken, also for the later of two at the same instant, and InvalidFields."""
        email = normalise_email(data.email)
        self.policy.check(data.password, username=data.username, email=email, pointer="/password")
        hashed = await self.passwords.hash(data.password)
        user = User(
            username=data.username,
            username_key=name_key(data.username),
            email=email,
            email_key=name_key(email),
            hashed_password=hashed,
            is_superuser=is_superuser,
        )
        async with self.database.transaction() as session:
            with unique_names():
                await repository(session).add(user)
            await enqueue(session, VERIFICATION_MAIL, {"user_id": user.id})
        return user

    async def get(self, user_id: int) -> User:
        """One account. Raises UserNotFound."""
        async with self.database.reading() as session:
            return await found(session, user_id)

    async def page(self, query: PageQuery) -> Page[UserRead]:
        """One page of all accounts."""
        return await LISTING.page(self.database, query)

    @again_after_deadlock
    async def update(self, caller: Caller, data: UserUpdate) -> User:
        """Change the caller's name or address.

        Raises NameTaken, InvalidFields and, for a new address, WrongPassword and TooManyRequests.
        """
        email = UNSET if data.email is UNSET else normalise_email(data.email)
        if email is not UNSET and email != (await self.get(caller.id)).email:
            await self.check_password(caller, data.current_password)
        async with self.database.transaction() as session:
            user = await found(session, caller.id)
            old = user.email
            if data.username is not UNSET:
                user.username, user.username_key = data.username, name_key(data.username)
            if email is not UNSET and email != old:
                user.email, user.email_key, user.email_verified = email, name_key(email), False
            with unique_names():
                await session.flush()
            if user.email != old:
                await enqueue(session, ADDRESS_CHANGED_MAIL, {"user_id": user.id, "old_address": old})
                await enqueue(session, VERIFICATION_MAIL, {"user_id": user.id})
        if user.email != old:
            caller.note("address_changed")
        return user

    async def check_password(self, caller: Caller, password: str) -> User:
        """The caller, whose password it is.

        Raises WrongPassword, which counts as a failed login, and TooManyRequests.
        """
        user = await self.get(caller.id)
        verify = partial(self.passwords.verify, user.hashed_password, password)
        if not await self.limits.guess(verify, account=str(user.id), network=caller.client.network):
            caller.note("password_refused")
            raise WrongPassword
        return user

    @again_after_deadlock
    async def set_rights(self, user_id: int, data: RightsUpdate, *, by: Caller) -> User:
        """Disable, enable, promote or demote. Raises UserNotFound and LastSuperuser."""
        async with self.database.transaction() as session:
            if data.is_active is False or data.is_superuser is False:
                await protect_last_superuser(session, user_id)
            user = await found(session, user_id)
            old = (user.is_active, user.is_superuser)
            user.is_active = user.is_active if data.is_active is UNSET else data.is_active
            user.is_superuser = user.is_superuser if data.is_superuser is UNSET else data.is_superuser
        if (user.is_active, user.is_superuser) != old:
            by.note("rights_changed", of=user_id, is_active=user.is_active, is_superuser=user.is_superuser)
        return user

    @again_after_deadlock
    async def delete(self, user_id: int, *, by: Caller) -> None:
        """Delete an account with all that belongs to it. Raises UserNotFound and LastSuperuser."""
        async with self.database.transaction() as session:
            await protect_last_superuser(session, user_id)
            await session.delete(await found(session, user_id))
        by.note("account_deleted", of=user_id)

    async def send_verification(self, user_id: int) -> None:
        """Mail another token to an address that isn't verified yet."""
        async with self.database.transaction() as session:
            await enqueue(session, VERIFICATION_MAIL, {"user_id": user_id})

    async def verify_email(self, token: str, client: Client) -> None:
        """Mark the address that a mailed token belongs to as verified. Raises InvalidVerificationToken."""
        try:
            claims = self.tokens.read(VERIFICATION, token)
        except InvalidTokenError:
            raise InvalidVerificationToken from None
        async with self.database.transaction() as session:
            user = await repository(session).get_one_or_none(id=claims.user_id, with_for_update=True)
            if user is None or not user.is_active or user.email_verified or fingerprint(user.email_key) != claims.state:
                raise InvalidVerificationToken
            user.email_verified = True
        security_event("address_verified", user_id=claims.user_id, address=client.address)


def repository(session: AsyncSession) -> UserRepository:
    """The driver's own errors are kept: the repository's would call an outage a conflict."""
    return UserRepository(session=session, wrap_exceptions=False, auto_refresh=False)


async def found(session: AsyncSession, user_id: int) -> User:
    """One account. Raises UserNotFound."""
    user = await repository(session).get_one_or_none(id=user_id)
    if user is None:
        raise UserNotFound
    return user


async def protect_last_superuser(session: AsyncSession, user_id: int) -> None:
    """Raises LastSuperuser when nobody else has the rights.

    The rows are locked in one order, so that of two superusers who demote each other at once, the later one finds that
    only one is left.
    """
    active = select(User.id).where(User.is_superuser, User.is_active).order_by(User.id).with_for_update()
    if (await session.scalars(active)).all() == [user_id]:
        raise LastSuperuser


@contextmanager
def unique_names() -> Generator[None]:
    """Raises NameTaken when the database finds a name twice."""
    try:
        yield
    except IntegrityError as error:
        if is_duplicate(error):
            raise NameTaken from error
        raise


def name_key(name: str) -> str:
    """What makes two names or addresses the same: they differ in case at most."""
    return name.casefold()


def normalise_email(address: str) -> str:
    """The address in its normal form, checked by its syntax alone. Raises InvalidFields."""
    try:
        return validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError:
        raise InvalidFields(InvalidField("/email", "must be an e-mail address")) from None
