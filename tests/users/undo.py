"""Tokens that undo a change of an address, for tests that don't make one."""

from datetime import timedelta

from litestar import Litestar

from app.database.models import now
from app.security.tokens import ADDRESS_UNDO
from app.users.models import FormerAddress
from app.users.repository import Former
from app.users.undo import undo_state
from tests.factories import parts_of


async def undo_token(
    app: Litestar, user_id: int, email: str = "former@example.org", *, days: float = 7, kept_days: float = 7
) -> str:
    """Keep a former address for a user, and return the token that puts it back, good for so many days."""
    row = FormerAddress(user_id=user_id, email=email, email_key=email, expires_at=now() + timedelta(days=kept_days))
    async with parts_of(app).database.transaction() as transaction:
        transaction.add(row)
    former = Former(row.id, row.email, row.expires_at)
    return parts_of(app).tokens.issue(ADDRESS_UNDO, user_id, timedelta(days=days), state=undo_state(former))
