"""The statements on authorization codes."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import bindparam, insert, select, update

from app.auth.models import LoginSession
from app.database.failures import refusals
from app.database.models import now, table_of
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.errors import Conflict
from app.oauth.models import AuthorizationCode, OAuthGrant
from app.oauth.repository import SessionEnded, amr_now


class StoredCode(Struct, frozen=True):
    """An authorization code, with whom it is for."""

    user_id: int
    client_row_id: int
    grant_id: int
    session_id: int | None
    redirect_uri: str
    challenge: str
    scope: str
    nonce: str | None
    amr: str
    authenticated_at: datetime


CODES = table_of(AuthorizationCode).c
CODE = (
    select(
        OAuthGrant.user_id,
        OAuthGrant.client_row_id,
        *(amr_now(CODES) if name == "amr" else CODES[name] for name in StoredCode.__struct_fields__[2:]),
    )
    .join(OAuthGrant, OAuthGrant.id == CODES.grant_id)
    .outerjoin(LoginSession, LoginSession.id == CODES.approved_in)
    .where(CODES.digest == bindparam("code"))
)


class CodeRepository(Repository[AuthorizationCode]):
    """The rows of `authorization_codes`."""

    model_type = AuthorizationCode

    async def create(self, transaction: Transaction, columns: dict[str, Any]) -> None:
        """Add a code. Raise SessionEnded."""
        with refusals(duplicate=Conflict, orphan=SessionEnded):
            await transaction.execute(insert(AuthorizationCode).values(**columns, used=False))

    async def find(self, digest: bytes, transaction: Transaction | None = None) -> StoredCode | None:
        """Return a code, used or not; None when there is none."""
        rows = await self.rows(CODE, {"code": digest}, transaction)
        return StoredCode(*rows[0]) if rows else None

    async def spend(self, transaction: Transaction, digest: bytes, session_id: int | None, until: datetime) -> bool:
        """Mark a code as used, by a session or in vain; of many calls one succeeds, the others return False.

        It is kept until then, and no longer ends with the browser's session that it was made in.
        """
        spent = (
            update(AuthorizationCode)
            .where(CODES.digest == digest, CODES.used.is_(False), CODES.expires_at > now())
            .values(used=True, session_id=session_id, approved_in=None, expires_at=until)
        )
        return (await transaction.execute(spent.returning(CODES.digest))).first() is not None

    async def purge(self) -> int:
        """Delete the codes that nobody can use any more, and whose sessions have ended; return their number."""
        return await delete_in_batches(self.database, AuthorizationCode, AuthorizationCode.expires_at <= now())
