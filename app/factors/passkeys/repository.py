"""The statements on passkeys, and on the challenges that they have signed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from app.database.failures import refusals
from app.database.models import columns_of, now
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.errors import InvalidField, InvalidFields
from app.factors.models import Passkey, SpentChallenge
from app.factors.schemas import PasskeyRead

CLOCKS_DIFFER_BY = timedelta(minutes=5)


class StoredPasskey(Struct, frozen=True):
    """A passkey as it is stored."""

    id: int
    user_id: int
    public_key: bytes
    sign_count: int


class NewPasskey(NamedTuple):
    """A passkey that has just been verified."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    backed_up: bool


class KeyTaken(InvalidFields):
    """The passkey is registered already, to this account or another."""

    def __init__(self) -> None:
        super().__init__(InvalidField("/credential", "is registered already"))


LIST = select(*columns_of(Passkey, PasskeyRead)).where(Passkey.user_id == bindparam("user")).order_by(Passkey.id)
FIND = select(*columns_of(Passkey, StoredPasskey)).where(Passkey.credential_id == bindparam("credential"))
CREDENTIALS = select(Passkey.credential_id).where(Passkey.user_id == bindparam("user")).order_by(Passkey.id)
OWN = (Passkey.id == bindparam("passkey")) & (Passkey.user_id == bindparam("user"))
RENAME = update(Passkey).where(OWN).values(name=bindparam("new_name")).returning(*columns_of(Passkey, PasskeyRead))
# A device that counts must have counted on; one that doesn't stays at 0, and so may its row.
COUNTED_ON = (Passkey.sign_count < bindparam("counted")) | ((Passkey.sign_count == 0) & (bindparam("counted") == 0))
USE = (
    update(Passkey)
    .where(Passkey.id == bindparam("passkey"), COUNTED_ON)
    .values(sign_count=bindparam("counted"), backed_up=bindparam("copied"), last_used_at=bindparam("at"))
    .returning(Passkey.id)
)
REMOVE = delete(Passkey).where(OWN).returning(Passkey.id)


def spend_statement(insert: postgresql.Insert | sqlite.Insert) -> ReturningInsert[datetime]:
    """Return the statement that adds a challenge, and returns a row, unless it was there."""
    return insert.on_conflict_do_nothing(index_elements=["digest"]).returning(SpentChallenge.expires_at)


SPEND = {
    "postgresql": spend_statement(postgresql.insert(SpentChallenge)),
    "sqlite": spend_statement(sqlite.insert(SpentChallenge)),
}


class PasskeyRepository(Repository[Passkey]):
    """The rows of `passkeys`."""

    model_type = Passkey

    async def of_user(self, user_id: int) -> list[PasskeyRead]:
        """Return a user's passkeys, oldest first."""
        return [PasskeyRead(*row) for row in await self.rows(LIST, {"user": user_id})]

    async def credentials_of(self, user_id: int) -> Sequence[bytes]:
        """Return the ids by which devices know a user's passkeys."""
        return [row[0] for row in await self.rows(CREDENTIALS, {"user": user_id})]

    async def find(self, credential_id: bytes) -> StoredPasskey | None:
        """Return the passkey that a device knows by an id; None when there is none."""
        rows = await self.rows(FIND, {"credential": credential_id})
        return StoredPasskey(*rows[0]) if rows else None

    async def count_of_user(self, transaction: Transaction, user_id: int) -> int:
        """Return the number of a user's passkeys."""
        count = select(func.count()).select_from(Passkey).where(Passkey.user_id == user_id)
        return (await transaction.execute(count)).scalar_one()

    async def add(  # type: ignore[override] # Advanced Alchemy's takes a model.
        self, transaction: Transaction, user_id: int, name: str, key: NewPasskey
    ) -> PasskeyRead:
        """Add a passkey. Raise KeyTaken."""
        values = {"user_id": user_id, "name": name, "created_at": now(), "last_used_at": None, **key._asdict()}
        added = insert(Passkey).values(**values).returning(*columns_of(Passkey, PasskeyRead))
        with refusals(duplicate=KeyTaken):
            return PasskeyRead(*(await transaction.execute(added)).one())

    async def use(self, transaction: Transaction, passkey_id: int, count: int, *, backed_up: bool) -> bool:
        """Record a use; return False when the key is gone, or a later signature was counted."""
        values = {"passkey": passkey_id, "counted": count, "copied": backed_up, "at": now()}
        return bool(await self.rows(USE, values, transaction))

    async def rename(self, user_id: int, passkey_id: int, name: str) -> PasskeyRead | None:
        """Give a user's passkey another name; return None when there is none."""
        rows = await self.rows(RENAME, {"passkey": passkey_id, "user": user_id, "new_name": name})
        return PasskeyRead(*rows[0]) if rows else None

    async def remove_key(self, transaction: Transaction, user_id: int, passkey_id: int) -> bool:
        """Delete a user's passkey; return False when there is none."""
        return bool(await self.rows(REMOVE, {"passkey": passkey_id, "user": user_id}, transaction))


class SpentChallengeRepository(Repository[SpentChallenge]):
    """The rows of `spent_challenges`."""

    model_type = SpentChallenge

    async def add(self, digest: bytes, expires_at: datetime) -> bool:  # type: ignore[override] # Advanced Alchemy's takes a model.
        """Add a challenge; return False when it was there. Of many calls at once, one returns True."""
        values = {"digest": digest, "expires_at": expires_at}
        return bool(await self.rows(SPEND[self.database.engine.dialect.name], values))

    async def purge(self) -> int:
        """Delete the challenges that have expired by every clock, and return their number."""
        return await delete_in_batches(
            self.database, SpentChallenge, SpentChallenge.expires_at <= now() - CLOCKS_DIFFER_BY
        )
