"""The statements on API tokens."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, insert, select, update

from app.api_tokens.models import ApiToken
from app.auth.caller import NO_SESSION, SignedIn
from app.database.models import columns_of, now
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.security.random_tokens import digest
from app.users.models import User

KEPT = timedelta(days=30)
"""The time for which an expired token stays in its owner's list, so that they see why a script has stopped."""


HINT_LENGTH = 4
NEVER = datetime.fromtimestamp(0, UTC)
"""The time of the last use of a token that nobody has used."""


class StoredToken(Struct, frozen=True):
    """An API token as its owner sees it."""

    id: int
    name: str
    scope: str
    hint: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class Ended(NamedTuple):
    """A token that has just ended, and its user."""

    id: int
    user_id: int


# One query for each request checks the token and its user together.
SIGNED_IN = (
    select(
        User.id,
        User.username,
        User.email,
        User.is_active,
        User.is_superuser,
        User.email_verified,
        User.created_at,
        ApiToken.last_used_at,
        ApiToken.wrote_at,
        ApiToken.scope,
        ApiToken.id,
    )
    .join(ApiToken, ApiToken.user_id == User.id)
    .where(
        ApiToken.digest == bindparam("digest"),
        ApiToken.expires_at.is_(None) | (ApiToken.expires_at > bindparam("now")),
        User.is_active,
    )
)
TOUCH = (
    update(ApiToken)
    .where(
        ApiToken.id == bindparam("token"),
        ApiToken.last_used_at.is_(None) | (ApiToken.last_used_at <= bindparam("before")),
    )
    .values(last_used_at=bindparam("now"))
    .returning(ApiToken.id)
)
# A slower request may bring an earlier time, which must not replace a later one.
SET_LAST_WRITE = (
    update(ApiToken)
    .where(ApiToken.id == bindparam("token"), ApiToken.wrote_at.is_(None) | (ApiToken.wrote_at < bindparam("now")))
    .values(wrote_at=bindparam("now"))
    .returning(ApiToken.id)
)
LIST = (
    select(*columns_of(ApiToken, StoredToken))
    .where(ApiToken.user_id == bindparam("owner"))
    .order_by(ApiToken.id.desc())
)


class ApiTokenRepository(Repository[ApiToken]):
    """The rows of `api_tokens`."""

    model_type = ApiToken

    async def signed_in(self, wanted: bytes, moment: datetime) -> SignedIn | None:
        """Return the user of a token; None when the token has ended by then, or the user isn't active."""
        rows = await self.rows(SIGNED_IN, {"digest": wanted, "now": moment})
        if not rows:
            return None
        *user, last_used_at, wrote_at, scope, token_id = rows[0]
        token: dict[str, Any] = {
            "session_id": NO_SESSION,
            "last_used_at": last_used_at or NEVER,
            "wrote_at": wrote_at,
            "scope": scope,
            "token_id": token_id,
        }
        return SignedIn(*user, **token)

    async def touch(self, token_id: int, moment: datetime, before: datetime) -> None:
        """Record that a token is in use at a moment, unless its recorded use is later than `before`."""
        await self.rows(TOUCH, {"token": token_id, "now": moment, "before": before})

    async def set_last_write(self, token_id: int, moment: datetime) -> None:
        """Record that a token writes at a moment, unless a later write is recorded."""
        await self.rows(SET_LAST_WRITE, {"token": token_id, "now": moment})

    async def of_user(self, user_id: int) -> Sequence[StoredToken]:
        """Return a user's tokens, the newest first."""
        return [StoredToken(*row) for row in await self.rows(LIST, {"owner": user_id})]

    async def count_of_user(self, transaction: Transaction, user_id: int) -> int:
        """Return the number of a user's tokens."""
        of_user = select(func.count()).select_from(ApiToken).where(ApiToken.user_id == user_id)
        return (await transaction.execute(of_user)).scalar_one()

    async def create(
        self, transaction: Transaction, user_id: int, token: str, name: str, scope: str, expires_at: datetime | None
    ) -> StoredToken:
        """Add a token; the row has its digest, and its last characters as a hint."""
        columns = {
            "user_id": user_id,
            "digest": digest(token),
            "hint": token[-HINT_LENGTH:],
            "name": name,
            "scope": scope,
            "expires_at": expires_at,
        }
        added = insert(ApiToken).values(**columns).returning(*columns_of(ApiToken, StoredToken))
        return StoredToken(*(await transaction.execute(added)).one())

    async def end(self, transaction: Transaction, token_id: int, user_id: int) -> bool:
        """End one token of a user; return False when there is none."""
        chosen = (ApiToken.id == token_id) & (ApiToken.user_id == user_id)
        ended = await transaction.execute(delete(ApiToken).where(chosen).returning(ApiToken.id))
        return ended.first() is not None

    async def end_by_digest(self, transaction: Transaction, wanted: bytes) -> Ended | None:
        """End a token; None when there is none."""
        ended = delete(ApiToken).where(ApiToken.digest == wanted).returning(ApiToken.id, ApiToken.user_id)
        row = (await transaction.execute(ended)).first()
        return Ended(*row) if row else None

    async def end_all(self, transaction: Transaction, user_id: int) -> None:
        """End every token of a user."""
        await transaction.execute(delete(ApiToken).where(ApiToken.user_id == user_id))

    async def purge(self) -> int:
        """Delete the tokens that expired KEPT ago, and return their number."""
        return await delete_in_batches(self.database, ApiToken, ApiToken.expires_at <= now() - KEPT)
