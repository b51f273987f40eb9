"""The statements on signing keys."""

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct, structs
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.database.models import columns_of
from app.database.repository import Repository
from app.security.signing.models import StoredSigningKey


class KeyRow(Struct, frozen=True):
    """A key as it is stored."""

    kid: str
    algorithm: str
    number: int
    encrypted: bytes
    signs_from: datetime
    token_seconds: int


ALL = select(*columns_of(StoredSigningKey, KeyRow)).order_by(StoredSigningKey.algorithm, StoredSigningKey.number)
ADD = {
    "postgresql": postgresql.insert(StoredSigningKey).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(StoredSigningKey).on_conflict_do_nothing(),
}
RAISE_LIFETIME = (
    update(StoredSigningKey)
    .where(StoredSigningKey.kid == bindparam("key"), StoredSigningKey.token_seconds < bindparam("seconds"))
    .values(token_seconds=bindparam("seconds"))
)
ENCRYPT_AGAIN = (
    update(StoredSigningKey)
    .where(StoredSigningKey.kid == bindparam("key"), StoredSigningKey.encrypted == bindparam("old"))
    .values(encrypted=bindparam("new"))
)


class SigningKeyRepository(Repository[StoredSigningKey]):
    """The rows of `signing_keys`."""

    model_type = StoredSigningKey

    async def all(self) -> list[KeyRow]:
        """Return all keys: those of one algorithm after each other, the oldest first."""
        return [KeyRow(*row) for row in await self.rows(ALL, {})]

    async def store(self, row: KeyRow) -> None:
        """Add a key, unless its algorithm has one of this number already."""
        async with self.database.transaction() as transaction:
            await transaction.execute(ADD[self.database.engine.dialect.name], structs.asdict(row))

    async def raise_lifetime(self, kid: str, token_seconds: int) -> None:
        """Record that a key signs tokens that are valid for so long, unless some are valid for longer."""
        async with self.database.transaction() as transaction:
            await transaction.execute(RAISE_LIFETIME, {"key": kid, "seconds": token_seconds})

    async def encrypt_again(self, kid: str, old: bytes, new: bytes) -> None:
        """Replace what a key was encrypted to, unless another process has."""
        async with self.database.transaction() as transaction:
            await transaction.execute(ENCRYPT_AGAIN, {"key": kid, "old": old, "new": new})

    async def remove_all(self, kids: Collection[str]) -> None:
        """Delete keys."""
        async with self.database.transaction() as transaction:
            await transaction.execute(delete(StoredSigningKey).where(StoredSigningKey.kid.in_(kids)))
