"""The statements on sessions, and on what signing in needs of users."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import ColumnElement, bindparam, delete, insert, select, update

from app.auth.caller import SignedIn
from app.auth.models import LoginSession
from app.database.driver import Rows
from app.database.models import columns_of, now
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.users.models import User, name_key


class Credentials(Struct, frozen=True):
    """What signing in, and changing how, needs of a user."""

    id: int
    username: str
    email: str
    email_key: str
    hashed_password: str
    is_active: bool


CREDENTIALS = select(User.id, User.username, User.email, User.email_key, User.hashed_password, User.is_active)
BY_ID = CREDENTIALS.where(User.id == bindparam("id"))
BY_USERNAME = CREDENTIALS.where(User.username_key == bindparam("key"))
BY_EMAIL = CREDENTIALS.where(User.email_key == bindparam("key"))
REPLACE_HASH = (
    update(User)
    .where(User.id == bindparam("user"), User.hashed_password == bindparam("old"))
    .values(hashed_password=bindparam("new"))
    .returning(User.id)
)


class CredentialRepository(Repository[User]):
    """The rows of `users`, as signing in sees them."""

    model_type = User

    async def by_id(self, user_id: int) -> Credentials | None:
        """Return a user's credentials."""
        return first(await self.rows(BY_ID, {"id": user_id}))

    async def by_name(self, name: str) -> Credentials | None:
        """Return the credentials with that username or e-mail address, in any case; no username has an @."""
        return first(await self.rows(BY_EMAIL if "@" in name else BY_USERNAME, {"key": name_key(name)}))

    async def replace_hash(self, user_id: int, old: str, new: str, transaction: Transaction | None = None) -> bool:
        """Replace that very hash; of two who do so at once, one finds it there still, and the other gets False."""
        return bool(await self.rows(REPLACE_HASH, {"user": user_id, "old": old, "new": new}, transaction))

    async def lock_active(self, transaction: Transaction, user_id: int, hashed_password: str | None) -> bool:
        """Lock an active user against logins and new passwords; False when the user isn't there, or has another hash.

        With None, any hash will do.
        """
        owner = select(User.id).where(User.id == user_id, User.is_active).with_for_update(key_share=True)
        if hashed_password is not None:
            owner = owner.where(User.hashed_password == hashed_password)
        return (await transaction.execute(owner)).first() is not None


def first(rows: Rows) -> Credentials | None:
    """Return the credentials in the first row, if there is one."""
    return Credentials(*rows[0]) if rows else None


class LiveSession(Struct, frozen=True):
    """A session as its owner sees it."""

    id: int
    device: str
    address: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


# One query for each request checks the session and its user together.
SIGNED_IN = (
    select(
        User.id,
        User.username,
        User.email,
        User.is_active,
        User.is_superuser,
        User.email_verified,
        User.created_at,
        LoginSession.id,
        LoginSession.last_used_at,
        LoginSession.wrote_at,
    )
    .join(LoginSession, LoginSession.user_id == User.id)
    .where(
        LoginSession.id == bindparam("session_id"),
        LoginSession.expires_at > bindparam("now"),
        User.id == bindparam("user_id"),
        User.is_active,
    )
)
THIS = (LoginSession.id == bindparam("session_id")) & (LoginSession.user_id == bindparam("owner"))
TOUCH = (
    update(LoginSession)
    .where(THIS, LoginSession.last_used_at <= bindparam("before"))
    .values(last_used_at=bindparam("now"))
    .returning(LoginSession.id)
)
# Never an earlier time, which a slower request may bring.
SET_LAST_WRITE = (
    update(LoginSession)
    .where(THIS, LoginSession.wrote_at.is_(None) | (LoginSession.wrote_at < bindparam("now")))
    .values(wrote_at=bindparam("now"))
    .returning(LoginSession.id)
)
LIST = (
    select(*columns_of(LoginSession, LiveSession))
    .where(LoginSession.user_id == bindparam("owner"), LoginSession.expires_at > bindparam("now"))
    .order_by(LoginSession.last_used_at.desc())
)


class SessionRepository(Repository[LoginSession]):
    """The rows of `sessions`."""

    model_type = LoginSession

    async def signed_in(self, session_id: int, user_id: int, moment: datetime) -> SignedIn | None:
        """Return a session and its user, when the session has not ended by then and the user is active."""
        rows = await self.rows(SIGNED_IN, {"session_id": session_id, "user_id": user_id, "now": moment})
        return SignedIn(*rows[0]) if rows else None

    async def touch_session(self, session_id: int, user_id: int, moment: datetime, before: datetime) -> None:
        """Note that a session is in use now, unless that was noted after `before`."""
        await self.rows(TOUCH, {"session_id": session_id, "owner": user_id, "now": moment, "before": before})

    async def set_last_write(self, session_id: int, user_id: int, moment: datetime) -> None:
        """Note when a session last wrote."""
        await self.rows(SET_LAST_WRITE, {"session_id": session_id, "owner": user_id, "now": moment})

    async def of_user(self, user_id: int) -> list[LiveSession]:
        """Return a user's sessions that have not ended, the latest used first."""
        return [LiveSession(*row) for row in await self.rows(LIST, {"owner": user_id, "now": now()})]

    async def open(self, transaction: Transaction, columns: dict[str, object], *, most: int) -> None:
        """Add a session; of a user's sessions the oldest go when there are more than `most`."""
        await transaction.execute(insert(LoginSession).values(**columns))
        newest = select(LoginSession.id).where(LoginSession.user_id == columns["user_id"])
        kept = newest.order_by(LoginSession.created_at.desc(), LoginSession.id).limit(most)
        surplus = (LoginSession.user_id == columns["user_id"]) & LoginSession.id.not_in(kept)
        await transaction.execute(delete(LoginSession).where(surplus))

    async def created_at(
        self, transaction: Transaction, session_id: int, user_id: int, generation: int
    ) -> datetime | None:
        """Return when a live session began that is at this generation; None when there is none."""
        current = live_session(session_id, user_id) & (LoginSession.generation == generation)
        return await transaction.scalar(select(LoginSession.created_at).where(current))

    async def rotate(
        self,
        transaction: Transaction,
        session_id: int,
        user_id: int,
        generation: int,
        *,
        moment: datetime,
        expires_at: datetime,
    ) -> bool:
        """Move a session on to the next generation: of many at once, one finds it there still."""
        current = live_session(session_id, user_id) & (LoginSession.generation == generation)
        moved = await transaction.execute(
            update(LoginSession)
            .where(current)
            .values(generation=generation + 1, refreshed_at=moment, last_used_at=moment, expires_at=expires_at)
            .returning(LoginSession.id)
        )
        return moved.first() is not None

    async def recently_rotated(
        self, transaction: Transaction, session_id: int, user_id: int, generation: int, since: datetime
    ) -> datetime | None:
        """Return when a live session ends that has left this generation after `since`; None when there is none."""
        recent = (LoginSession.generation == generation + 1) & (LoginSession.refreshed_at > since)
        found = select(LoginSession.expires_at).where(live_session(session_id, user_id) & recent)
        return await transaction.scalar(found)

    async def end_live(self, transaction: Transaction, session_id: int, user_id: int) -> bool:
        """End a session that has not ended; False when it has."""
        return bool(await self._end(transaction, live_session(session_id, user_id)))

    async def end(self, transaction: Transaction, session_id: int, user_id: int) -> bool:
        """End a user's session, also one that has expired; False when there is none."""
        which = (LoginSession.id == session_id) & (LoginSession.user_id == user_id)
        return bool(await self._end(transaction, which))

    async def end_all(self, transaction: Transaction, user_id: int, *, but: int = 0) -> int:
        """End every session of a user but one; return how many there were. No session has the id 0."""
        return len(await self._end(transaction, (LoginSession.user_id == user_id) & (LoginSession.id != but)))

    async def _end(self, transaction: Transaction, which: ColumnElement[bool]) -> Sequence[object]:
        return (await transaction.execute(delete(LoginSession).where(which).returning(LoginSession.id))).all()

    async def purge(self) -> int:
        """Delete the sessions that have ended by themselves; return how many there were."""
        async with self.database.transaction() as transaction:
            return len(await self._end(transaction, LoginSession.expires_at <= now()))


def live_session(session_id: int, user_id: int) -> ColumnElement[bool]:
    """Return the condition that a row is this user's session, has not ended, and the user is active."""
    active = select(User.id).where(User.id == user_id, User.is_active).scalar_subquery()
    return (LoginSession.id == session_id) & (LoginSession.user_id == active) & (LoginSession.expires_at > now())
