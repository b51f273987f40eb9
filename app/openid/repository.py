"""The statement that reads when an account was last changed, for /userinfo."""

from datetime import datetime

from sqlalchemy import bindparam, select

from app.database.repository import Repository
from app.users.models import User

UPDATED_AT = select(User.updated_at).where(User.id == bindparam("id"))


class PersonRepository(Repository[User]):
    """The rows of `users`, as applications see them."""

    model_type = User

    async def updated_at(self, user_id: int) -> datetime | None:
        """Return when an account was changed last; None when it is gone."""
        rows = await self.rows(UPDATED_AT, {"id": user_id})
        return rows[0][0] if rows else None
