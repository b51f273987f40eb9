"""The statements on stored answers."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from app.database.models import now
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.http.idempotency.models import StoredAnswer

LIFETIME = timedelta(hours=24)


class Sent(NamedTuple):
    """A request with a key: whose it is, and digests of its method, path and key, and of its body."""

    user_id: int
    request: bytes
    content: bytes


def claim(insert: postgresql.Insert | sqlite.Insert) -> ReturningInsert[int]:
    """Return what makes the row this request's, when there is none or one that is too old.

    While another transaction is about to write the same row, PostgreSQL waits for its end; SQLite lets but one
    transaction write at a time.
    """
    return insert.on_conflict_do_update(
        index_elements=["user_id", "request"],
        set_={"content": insert.excluded.content, "created_at": insert.excluded.created_at},
        where=StoredAnswer.created_at < bindparam("oldest"),
    ).returning(StoredAnswer.user_id)


CLAIM = {"postgresql": claim(postgresql.insert(StoredAnswer)), "sqlite": claim(sqlite.insert(StoredAnswer))}
THIS = (StoredAnswer.user_id == bindparam("user")) & (StoredAnswer.request == bindparam("this"))
READ = select(StoredAnswer.content, StoredAnswer.answer).where(THIS)
STORE = update(StoredAnswer).where(THIS).values(answer=bindparam("stored"))
PURGE = delete(StoredAnswer).where(StoredAnswer.created_at < bindparam("oldest")).returning(StoredAnswer.user_id)


class AnswerRepository(Repository[StoredAnswer]):
    """The rows of `idempotency_keys`."""

    model_type = StoredAnswer

    async def claim(self, transaction: Transaction, sent: Sent) -> bool:
        """Make a request's row this transaction's; False when it was answered before.

        Raise DBAPIError when another transaction takes too long with the same request.
        """
        moment = now()
        values = {**sent._asdict(), "created_at": moment, "oldest": moment - LIFETIME}
        claimed = await transaction.execute(CLAIM[self.database.engine.dialect.name], values)
        return bool(claimed.all())

    async def find(self, transaction: Transaction, sent: Sent) -> tuple[bytes, bytes]:
        """Return the digest of the body that was answered, and the answer."""
        rows = await self.rows(READ, {"user": sent.user_id, "this": sent.request}, transaction)
        return rows[0][0], rows[0][1]

    async def store(self, transaction: Transaction, sent: Sent, answer: bytes) -> None:
        """Keep the answer for those who send the same again."""
        await transaction.execute(STORE, {"user": sent.user_id, "this": sent.request, "stored": answer})

    async def purge(self) -> int:
        """Delete the answers that are no longer given again; return how many there were."""
        async with self.database.transaction() as transaction:
            return len(await self.rows(PURGE, {"oldest": now() - LIFETIME}, transaction))
