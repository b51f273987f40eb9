"""The statements on the answers to requests with an idempotency key."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from app.database.models import now
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.http.idempotency.models import StoredAnswer

LIFETIME = timedelta(hours=24)


class KeyedRequest(NamedTuple):
    """A request with a key: its user, the digest of its method, path and key, and the digest of its body."""

    user_id: int
    request: bytes
    content: bytes


def claim_statement(insert: postgresql.Insert | sqlite.Insert) -> ReturningInsert[int]:
    """Return the statement that claims the row of a request, when there is none, or one that is older than `oldest`.

    Of two transactions that claim the same row, one waits for the end of the other.
    """
    return insert.on_conflict_do_update(
        index_elements=["user_id", "request"],
        set_={"content": insert.excluded.content, "created_at": insert.excluded.created_at},
        where=StoredAnswer.created_at < bindparam("oldest"),
    ).returning(StoredAnswer.user_id)


CLAIM = {
    "postgresql": claim_statement(postgresql.insert(StoredAnswer)),
    "sqlite": claim_statement(sqlite.insert(StoredAnswer)),
}
SAME_REQUEST = (StoredAnswer.user_id == bindparam("user")) & (StoredAnswer.request == bindparam("digest"))
READ = select(StoredAnswer.content, StoredAnswer.answer).where(SAME_REQUEST)
STORE = update(StoredAnswer).where(SAME_REQUEST).values(answer=bindparam("stored"))


class AnswerRepository(Repository[StoredAnswer]):
    """The rows of `idempotency_keys`."""

    model_type = StoredAnswer

    async def claim(self, transaction: Transaction, keyed: KeyedRequest) -> bool:
        """Claim a request for this transaction; return False when it was answered before.

        Raise DBAPIError when another transaction holds the same request for too long.
        """
        moment = now()
        values = {**keyed._asdict(), "created_at": moment, "oldest": moment - LIFETIME}
        claimed = await transaction.execute(CLAIM[self.database.engine.dialect.name], values)
        return bool(claimed.all())

    async def find(self, transaction: Transaction, keyed: KeyedRequest) -> tuple[bytes, bytes]:
        """Return the digest of the first request's body, and its answer."""
        rows = await self.rows(READ, {"user": keyed.user_id, "digest": keyed.request}, transaction)
        return rows[0][0], rows[0][1]

    async def store(self, transaction: Transaction, keyed: KeyedRequest, answer: bytes) -> None:
        """Store the answer to a request that this transaction has claimed."""
        await transaction.execute(STORE, {"user": keyed.user_id, "digest": keyed.request, "stored": answer})

    async def purge(self) -> int:
        """Delete the answers that are older than LIFETIME, and return their number."""
        return await delete_in_batches(self.database, StoredAnswer, StoredAnswer.created_at < now() - LIFETIME)
