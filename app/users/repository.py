"""The statements on accounts: to create, list, change and delete them."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import bindparam, delete, insert, select

from app.auth.credentials import UserNotFound
from app.database.failures import refusals
from app.database.models import columns_of, now, table_of
from app.database.pages import Listing, Page, PageQuery
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.errors import BadRequest
from app.users.models import FormerAddress, User, address_key
from app.users.schemas import UserRead


class NameTaken(BadRequest):
    """Another account has that username or e-mail address, in whatever case."""

    detail = "Username or email already registered"


class Recipient(Struct, frozen=True):
    """The fields of a user that a mail to the user needs."""

    id: int
    username: str
    email: str
    email_version: int
    email_verified: bool


READ = select(*columns_of(User, UserRead)).where(table_of(User).c.id == bindparam("id"))
RECIPIENT = select(*columns_of(User, Recipient)).where(table_of(User).c.id == bindparam("id"))
LISTING = Listing(
    User,
    UserRead,
    key=User.id,
    orders=[User.id, User.created_at, User.username],
    searched=[User.username_key, User.email_key],
)
# All transactions lock in one order, so that of two superusers who demote each other at once, the later one sees that
# only one is left.
LOCK_SUPERUSERS = select(User.id).where(User.is_superuser, User.is_active).order_by(User.id).with_for_update()


class UserRepository(Repository[User]):
    """The rows of `users`."""

    model_type = User

    async def create(self, transaction: Transaction, user: User) -> None:
        """Add an account. Raise NameTaken."""
        with refusals(duplicate=NameTaken):
            await self.within(transaction).add(user)

    async def read(self, user_id: int) -> UserRead:
        """Return one account. Raise UserNotFound."""
        rows = await self.rows(READ, {"id": user_id})
        if not rows:
            raise UserNotFound
        return UserRead(*rows[0])

    async def recipient(self, user_id: int) -> Recipient | None:
        """Return the recipient of a mail; None when the user was deleted."""
        rows = await self.rows(RECIPIENT, {"id": user_id})
        return Recipient(*rows[0]) if rows else None

    async def page_of_all(self, query: PageQuery) -> Page[UserRead]:
        """Return one page of all accounts."""
        return await self.page(LISTING, query)

    async def to_change(self, transaction: Transaction, user_id: int) -> User:
        """Return an account, locked against other changes until the transaction ends. Raise UserNotFound."""
        user = await self.find_to_change(transaction, user_id)
        if user is None:
            raise UserNotFound
        return user

    async def find_to_change(self, transaction: Transaction, user_id: int) -> User | None:
        """Return an account, locked as by `to_change`; None when there is none."""
        return await self.within(transaction).get_one_or_none(id=user_id, with_for_update=True)

    async def save(self, transaction: Transaction) -> None:
        """Write the changes of the transaction's accounts to the database. Raise NameTaken."""
        with refusals(duplicate=NameTaken):
            await transaction.flush()

    async def lock_superusers(self, transaction: Transaction) -> Sequence[int]:
        """Lock the active superusers until the transaction ends, and return their ids."""
        return (await transaction.scalars(LOCK_SUPERUSERS)).all()


class Former(Struct, frozen=True):
    """A former address that can be put back until it expires."""

    id: int
    email: str
    expires_at: datetime


OF_USER = (
    select(*columns_of(FormerAddress, Former))
    .where(FormerAddress.user_id == bindparam("owner"), FormerAddress.expires_at > bindparam("at"))
    .order_by(FormerAddress.id)
)
KEPT_FOR_OTHERS = select(FormerAddress.id).where(
    FormerAddress.email_key == bindparam("key"),
    FormerAddress.user_id != bindparam("asking"),
    FormerAddress.expires_at > bindparam("at"),
)


class FormerAddressRepository(Repository[FormerAddress]):
    """The rows of `former_addresses`."""

    model_type = FormerAddress

    async def keep(self, transaction: Transaction, user: User, expires_at: datetime) -> int:
        """Keep the address that a user is about to leave, and return the row's id."""
        values = {"user_id": user.id, "email": user.email, "email_key": user.email_key, "expires_at": expires_at}
        kept = insert(FormerAddress).values(**values).returning(FormerAddress.id)
        return (await transaction.execute(kept)).scalar_one()

    async def check(self, transaction: Transaction, user: User) -> None:
        """Raise NameTaken when a user's new address is kept for another account, which may put it back.

        The user's row has been written, so that of an account that leaves an address and one that takes it, this one
        sees what the other has committed.
        """
        values = {"key": user.email_key, "asking": user.id, "at": now()}
        if await self.rows(KEPT_FOR_OTHERS, values, transaction):
            raise NameTaken

    async def of_user(self, user_id: int, transaction: Transaction | None = None) -> Sequence[Former]:
        """Return the addresses that a user may put back, oldest first."""
        rows = await self.rows(OF_USER, {"owner": user_id, "at": now()}, transaction)
        return [Former(*row) for row in rows]

    async def forget(self, transaction: Transaction, user_id: int, since: int) -> None:
        """Delete a user's former addresses from one of them on, by its id: what came after it is undone with it."""
        chosen = (FormerAddress.user_id == user_id) & (FormerAddress.id >= since)
        await transaction.execute(delete(FormerAddress).where(chosen))

    async def forget_since_return(self, transaction: Transaction, user: User) -> None:
        """Delete a user's former addresses from the first on that the user has again; none if it is none of them."""
        kept = await self.of_user(user.id, transaction)
        again = next((former for former in kept if address_key(former.email) == user.email_key), None)
        if again:
            await self.forget(transaction, user.id, since=again.id)

    async def purge(self) -> int:
        """Delete the addresses that can't be put back any more, and return their number."""
        return await delete_in_batches(self.database, FormerAddress, FormerAddress.expires_at <= now())
