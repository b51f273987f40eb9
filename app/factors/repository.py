"""The statements on authenticator apps and recovery codes."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from app.auth.models import LoginSession
from app.database.models import columns_of, now
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.factors.models import Passkey, RecoveryCode, Totp
from app.users.models import User, login_key


class StoredTotp(Struct, frozen=True):
    """A secret as it is stored, and when its first code came; None while it is pending."""

    secret: bytes
    confirmed_at: datetime | None


class Owner(NamedTuple):
    """The owner of factors, for mails to them."""

    id: int
    username: str
    email: str
    email_verified: bool


def begin_statement(insert: postgresql.Insert | sqlite.Insert) -> ReturningInsert[int]:
    """Return the statement that stores a pending secret, in the place of one that is pending already."""
    values = {"secret": insert.excluded.secret, "created_at": insert.excluded.created_at}
    pending = insert.on_conflict_do_update(index_elements=["user_id"], set_=values, where=Totp.confirmed_at.is_(None))
    return pending.returning(Totp.user_id)


BEGIN = {"postgresql": begin_statement(postgresql.insert(Totp)), "sqlite": begin_statement(sqlite.insert(Totp))}
READ = select(*columns_of(Totp, StoredTotp)).where(Totp.user_id == bindparam("user"))
CONFIRM = (
    update(Totp)
    .where(Totp.user_id == bindparam("user"), Totp.confirmed_at.is_(None), Totp.secret == bindparam("seen"))
    .values(confirmed_at=bindparam("at"), last_step=bindparam("step"))
    .returning(Totp.user_id)
)
# Of many sign-ins with one code, one changes the row; the others wait for its commit, and find no row then.
SPEND_STEP = (
    update(Totp)
    .where(Totp.user_id == bindparam("user"), Totp.confirmed_at.is_not(None), Totp.last_step < bindparam("step"))
    .values(last_step=bindparam("step"))
    .returning(Totp.user_id)
)
REPLACE_SECRET = (
    update(Totp)
    .where(Totp.user_id == bindparam("user"), Totp.secret == bindparam("old"))
    .values(secret=bindparam("new"))
    .returning(Totp.user_id)
)
SPEND_CODE = (
    delete(RecoveryCode)
    .where(RecoveryCode.user_id == bindparam("user"), RecoveryCode.digest == bindparam("spent"))
    .returning(RecoveryCode.user_id)
)
COUNT_CODES = select(func.count()).select_from(RecoveryCode).where(RecoveryCode.user_id == bindparam("user"))
HAS_FACTOR = select(User.id).where(
    User.id == bindparam("user"),
    User.second_factor | select(Passkey.id).where(Passkey.user_id == User.id).exists(),
)
OWNER = select(User.id, User.username, User.email, User.email_verified)


class FactorRepository(Repository[Totp]):
    """The rows of `totps` and of `recovery_codes`, and what the rows of users and sessions say of them."""

    model_type = Totp

    async def has_any(self, user_id: int) -> bool:
        """Return whether a user has an authenticator app or a passkey."""
        return bool(await self.rows(HAS_FACTOR, {"user": user_id}))

    async def find(self, user_id: int) -> StoredTotp | None:
        """Return a user's secret, active or pending; None when there is none."""
        rows = await self.rows(READ, {"user": user_id})
        return StoredTotp(*rows[0]) if rows else None

    async def begin(self, user_id: int, secret: bytes) -> bool:
        """Store a pending secret; return False when one is active."""
        values = {"user_id": user_id, "secret": secret, "last_step": 0, "confirmed_at": None, "created_at": now()}
        return bool(await self.rows(BEGIN[self.database.engine.dialect.name], values))

    async def confirm(self, transaction: Transaction, user_id: int, secret: bytes, step: int) -> bool:
        """Make a pending secret the active one, and spend the step of its code; return False when it isn't pending."""
        values = {"user": user_id, "seen": secret, "at": now(), "step": step}
        return bool(await self.rows(CONFIRM, values, transaction))

    async def spend_step(self, user_id: int, step: int) -> bool:
        """Spend the code of a step; return False when it, or a later one, was spent before."""
        return bool(await self.rows(SPEND_STEP, {"user": user_id, "step": step}))

    async def replace_secret(self, user_id: int, old: bytes, new: bytes) -> None:
        """Store a secret as it is encrypted by now, unless another has taken its place."""
        await self.rows(REPLACE_SECRET, {"user": user_id, "old": old, "new": new})

    async def mark(self, transaction: Transaction, user_id: int, *, has: bool) -> bool:
        """Mark whether a user has a second factor, and lock the user until the transaction ends.

        Return False when that was marked before, or the user is gone.
        """
        marked = update(User).where(User.id == user_id, User.second_factor != has).values(second_factor=has)
        return (await transaction.execute(marked.returning(User.id))).first() is not None

    async def has_app(self, transaction: Transaction, user_id: int) -> bool:
        """Return whether a user, whose row is locked, has an authenticator app."""
        marked = select(User.id).where(User.id == user_id, User.second_factor)
        return (await transaction.execute(marked)).first() is not None

    async def remove_totp(self, transaction: Transaction, user_id: int) -> None:
        """Delete a user's secret and recovery codes."""
        await transaction.execute(delete(Totp).where(Totp.user_id == user_id))
        await transaction.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))

    async def replace_codes(self, transaction: Transaction, user_id: int, digests: Iterable[bytes]) -> None:
        """Replace a user's recovery codes, of which the database has digests."""
        await transaction.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        rows = [{"user_id": user_id, "digest": digest} for digest in digests]
        await transaction.execute(insert(RecoveryCode), rows)

    async def spend_code(self, transaction: Transaction, user_id: int, digest: bytes) -> bool:
        """Spend a recovery code; of many calls at once, one succeeds, the others return False."""
        return bool(await self.rows(SPEND_CODE, {"user": user_id, "spent": digest}, transaction))

    async def count_codes(self, user_id: int) -> int:
        """Return the number of a user's recovery codes that aren't spent."""
        count: int = (await self.rows(COUNT_CODES, {"user": user_id}))[0][0]
        return count

    async def owner(self, transaction: Transaction, user_id: int) -> Owner:
        """Return a user, for a mail to them."""
        return Owner(*(await transaction.execute(OWNER.where(User.id == user_id))).one())

    async def find_owner(self, transaction: Transaction, name: str) -> Owner | None:
        """Return the user with that username or e-mail address, locked until the transaction ends."""
        key = User.email_key if "@" in name else User.username_key
        row = (await transaction.execute(OWNER.where(key == login_key(name)).with_for_update())).first()
        return Owner(*row) if row else None

    async def remove_all(self, transaction: Transaction, user_id: int) -> None:
        """Delete every factor of a user, and end every session."""
        await self.mark(transaction, user_id, has=False)
        await self.remove_totp(transaction, user_id)
        await transaction.execute(delete(Passkey).where(Passkey.user_id == user_id))
        await transaction.execute(delete(LoginSession).where(LoginSession.user_id == user_id))
