"""The statements on accounts: to create, list, change and delete them."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import bindparam, select

from app.auth.credentials import UserNotFound
from app.database.failures import refusals
from app.database.models import columns_of, table_of
from app.database.pages import Listing, Page, PageQuery
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.errors import BadRequest
from app.users.models import User
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
