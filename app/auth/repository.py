"""The statements on sessions, and on the credentials of users."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import ColumnElement, bindparam, delete, insert, select, update

from app.auth.caller import Caller, InvalidCredentials, SignedIn
from app.auth.models import AUTHENTICATED_AT, LoginSession
from app.database.driver import Rows
from app.database.models import columns_of, now
from app.database.purge import delete_in_batches
from app.database.repository import Repository
from app.database.sessions import Transaction
from app.users.models import User, login_key


class StoredCredentials(Struct, frozen=True):
    """The credentials of a user, as they are stored."""

    id: int
    username: str
    email: str
    hashed_password: str
    is_active: bool
    email_verified: bool
    second_factor: bool


CREDENTIALS = select(*columns_of(User, StoredCredentials))
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
    """The credentials in the rows of `users`."""

    model_type = User

    async def by_id(self, user_id: int) -> StoredCredentials | None:
        """Return a user's credentials; None when there is no such user."""
        return credentials_of(await self.rows(BY_ID, {"id": user_id}))

    async def by_name(self, name: str) -> StoredCredentials | None:
        """Return the credentials with that username or e-mail address, in any form; no username has an @."""
        return credentials_of(await self.rows(BY_EMAIL if "@" in name else BY_USERNAME, {"key": login_key(name)}))

    async def replace_hash(self, user_id: int, old: str, new: str, transaction: Transaction | None = None) -> bool:
        """Replace a hash if it is still the `old` one; of two calls at once, one succeeds, the other returns False."""
        return bool(await self.rows(REPLACE_HASH, {"user": user_id, "old": old, "new": new}, transaction))

    async def lock_active(
        self, transaction: Transaction, user_id: int, hashed_password: str | None, *, second_factor: bool | None = None
    ) -> bool:
        """Lock an active user against logins, new passwords and new factors until the transaction ends.

        Return False when there is none, or when the user has another hash, or has a second factor where none was
        expected, or the other way round; None stands for any.
        """
        owner = select(User.id).where(User.id == user_id, User.is_active).with_for_update(key_share=True)
        if hashed_password is not None:
            owner = owner.where(User.hashed_password == hashed_password)
        if second_factor is not None:
            owner = owner.where(User.second_factor == second_factor)
        return (await transaction.execute(owner)).first() is not None


def credentials_of(rows: Rows) -> StoredCredentials | None:
    """Return the credentials in the first row; None when there is no row."""
    return StoredCredentials(*rows[0]) if rows else None


class Current(NamedTuple):
    """A live session at its current generation: when it began, and the scopes to which it was narrowed."""

    created_at: datetime
    scope: str | None


class Repeated(NamedTuple):
    """A session whose last refresh was repeated, and how often that was."""

    expires_at: datetime
    scope: str | None
    times: int


class LiveSession(Struct, frozen=True):
    """A session as its owner sees it."""

    id: int
    device: str
    address: str
    amr: str
    authenticated_at: datetime
    created_at: datetime
    last_used_at: datetime


# One query for each request checks the session and its user together.
LIVE = (
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
        LoginSession.scope,
        LoginSession.amr,
        AUTHENTICATED_AT,
        LoginSession.client_id,
    )
    .join(LoginSession, LoginSession.user_id == User.id)
    .where(LoginSession.expires_at > bindparam("now"), User.is_active)
)
SIGNED_IN = LIVE.where(LoginSession.id == bindparam("session_id"), User.id == bindparam("user_id"))
IN_BROWSER = LIVE.add_columns(LoginSession.created_at).where(LoginSession.cookie_digest == bindparam("digest"))
THIS_SESSION = (LoginSession.id == bindparam("session_id")) & (LoginSession.user_id == bindparam("owner"))
# A session of the person's own, and not one that an application acts by.
OWN = LoginSession.client_id.is_(None)
TOUCH = (
    update(LoginSession)
    .where(THIS_SESSION, LoginSession.last_used_at <= bindparam("before"))
    .values(last_used_at=bindparam("now"))
    .returning(LoginSession.id)
)
KEEP_ALIVE = (
    update(LoginSession)
    .where(THIS_SESSION, LoginSession.last_used_at <= bindparam("before"))
    .values(last_used_at=bindparam("now"), expires_at=bindparam("until"))
    .returning(LoginSession.id)
)
SET_COOKIE = (
    update(LoginSession)
    .where(THIS_SESSION)
    .values(cookie_digest=bindparam("digest"))
    .returning(LoginSession.created_at)
)
# A slower request may bring an earlier time, which must not replace a later one.
SET_LAST_WRITE = (
    update(LoginSession)
    .where(THIS_SESSION, LoginSession.wrote_at.is_(None) | (LoginSession.wrote_at < bindparam("now")))
    .values(wrote_at=bindparam("now"))
    .returning(LoginSession.id)
)
LIST = (
    select(
        LoginSession.id,
        LoginSession.device,
        LoginSession.address,
        LoginSession.amr,
        AUTHENTICATED_AT,
        LoginSession.created_at,
        LoginSession.last_used_at,
    )
    .where(OWN, LoginSession.user_id == bindparam("owner"), LoginSession.expires_at > bindparam("now"))
    .order_by(LoginSession.last_used_at.desc())
)


class SessionRepository(Repository[LoginSession]):
    """The rows of `sessions`."""

    model_type = LoginSession

    async def signed_in(self, session_id: int, user_id: int, moment: datetime) -> SignedIn | None:
        """Return a session and its user; None when the session has ended by then, or the user isn't active."""
        rows = await self.rows(SIGNED_IN, {"session_id": session_id, "user_id": user_id, "now": moment})
        return SignedIn(*rows[0]) if rows else None

    async def touch_session(self, session_id: int, user_id: int, moment: datetime, before: datetime) -> None:
        """Record that a session is in use at a moment, unless its recorded use is later than `before`."""
        await self.rows(TOUCH, {"session_id": session_id, "owner": user_id, "now": moment, "before": before})

    async def in_browser(self, digest: bytes, moment: datetime) -> tuple[SignedIn, datetime] | None:
        """Return the session of a cookie with its user, and when it began; None as `signed_in` does."""
        rows = await self.rows(IN_BROWSER, {"digest": digest, "now": moment})
        return (SignedIn(*rows[0][:-1]), rows[0][-1]) if rows else None

    async def keep_alive(self, user: SignedIn, moment: datetime, before: datetime, until: datetime) -> None:
        """Record that a session is in use at a moment, as `touch_session` does, and when it ends if it isn't again."""
        values = {"session_id": user.session_id, "owner": user.id, "now": moment, "before": before, "until": until}
        await self.rows(KEEP_ALIVE, values)

    async def set_cookie(self, session_id: int, user_id: int, digest: bytes) -> datetime | None:
        """Give a session another cookie, and return when the session began; None when it has ended."""
        rows = await self.rows(SET_COOKIE, {"session_id": session_id, "owner": user_id, "digest": digest})
        return rows[0][0] if rows else None

    async def set_last_write(self, session_id: int, user_id: int, moment: datetime) -> None:
        """Record that a session writes at a moment, unless a later write is recorded."""
        await self.rows(SET_LAST_WRITE, {"session_id": session_id, "owner": user_id, "now": moment})

    async def prove(self, transaction: Transaction, session_id: int, user_id: int) -> bool:
        """Record that a session's user has just proved who they are; return False when the session has ended."""
        proved = update(LoginSession).where(live_session(session_id, user_id)).values(authenticated_at=now())
        return (await transaction.execute(proved.returning(LoginSession.id))).first() is not None

    async def set_amr(self, transaction: Transaction, session_id: int, amr: str) -> None:
        """Set the methods by which a session's user has proved who they are."""
        await transaction.execute(update(LoginSession).where(LoginSession.id == session_id).values(amr=amr))

    async def replace_amr(self, transaction: Transaction, user_id: int, old: str, new: str) -> None:
        """Replace the methods of all sessions of a user that have the old ones, since these are no longer good."""
        theirs = (LoginSession.user_id == user_id) & (LoginSession.amr == old)
        await transaction.execute(update(LoginSession).where(theirs).values(amr=new))

    async def of_user(self, user_id: int) -> list[LiveSession]:
        """Return a user's sessions that have not ended, the latest used first."""
        return [LiveSession(*row) for row in await self.rows(LIST, {"owner": user_id, "now": now()})]

    async def open(self, transaction: Transaction, columns: dict[str, object], *, max_sessions: int) -> None:
        """Add a session, and end the user's oldest ones when there are more than `max_sessions`.

        Those of each application are counted apart, so that none ends the person's own.
        """
        await transaction.execute(insert(LoginSession).values(**columns))
        alike = (LoginSession.user_id == columns["user_id"]) & LoginSession.client_id.is_not_distinct_from(
            columns["client_id"]
        )
        newest = select(LoginSession.id).where(alike)
        kept = newest.order_by(LoginSession.created_at.desc(), LoginSession.id).limit(max_sessions)
        surplus = alike & LoginSession.id.not_in(kept)
        await transaction.execute(delete(LoginSession).where(surplus))

    async def current(self, transaction: Transaction, session_id: int, user_id: int, generation: int) -> Current | None:
        """Return a live session of this generation; None when there is none."""
        current = live_session(session_id, user_id) & (LoginSession.generation == generation)
        row = (await transaction.execute(select(LoginSession.created_at, LoginSession.scope).where(current))).first()
        return Current(*row) if row else None

    async def lock_caller(self, transaction: Transaction, caller: Caller) -> None:
        """Lock the caller's user against logins, new passwords and new factors until the transaction ends.

        Raise InvalidCredentials when the session has ended since the guard let the request in. So whoever has lost it,
        as by a reset of the password, makes nothing that outlives it.
        """
        await transaction.execute(select(User.id).where(User.id == caller.id).with_for_update(key_share=True))
        live = select(LoginSession.id).where(live_session(caller.session_id, caller.id))
        if (await transaction.execute(live)).first() is None:
            raise InvalidCredentials

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
        """Increment the generation of a live session; of many calls at once, one succeeds, the others return False."""
        current = live_session(session_id, user_id) & (LoginSession.generation == generation)
        moved = await transaction.execute(
            update(LoginSession)
            .where(current)
            .values(generation=generation + 1, repeats=0, refreshed_at=moment, expires_at=expires_at)
            .returning(LoginSession.id)
        )
        return moved.first() is not None

    async def repeat(
        self, transaction: Transaction, session_id: int, user_id: int, generation: int, since: datetime
    ) -> Repeated | None:
        """Count a repeat of the refresh by which a live session has left this generation after `since`.

        Return None when there was none since then.
        """
        recent = (LoginSession.generation == generation + 1) & (LoginSession.refreshed_at > since)
        counted = (
            update(LoginSession)
            .where(live_session(session_id, user_id) & recent)
            .values(repeats=LoginSession.repeats + 1)
            .returning(LoginSession.expires_at, LoginSession.scope, LoginSession.repeats)
        )
        row = (await transaction.execute(counted)).first()
        return Repeated(*row) if row else None

    async def end_live(self, transaction: Transaction, session_id: int, user_id: int) -> bool:
        """End a live session; return False when it has ended already."""
        return bool(await self._end(transaction, live_session(session_id, user_id)))

    async def end(self, transaction: Transaction, session_id: int, user_id: int) -> bool:
        """End a user's session, even if it has expired; return False when there is none."""
        condition = (LoginSession.id == session_id) & (LoginSession.user_id == user_id)
        return bool(await self._end(transaction, condition))

    async def end_own(self, transaction: Transaction, session_id: int, user_id: int) -> bool:
        """End a session of a user's own; return False when there is none, or an application acts by it."""
        condition = (LoginSession.id == session_id) & (LoginSession.user_id == user_id) & OWN
        return bool(await self._end(transaction, condition))

    async def end_other_own(self, transaction: Transaction, user_id: int, *, but: int) -> int:
        """End every session of a user's own but one, and return their number; applications keep theirs."""
        condition = (LoginSession.user_id == user_id) & (LoginSession.id != but) & OWN
        return len(await self._end(transaction, condition))

    async def end_all(self, transaction: Transaction, user_id: int, *, but: int = 0) -> int:
        """End every session of a user but one, and return their number; no session has the id 0."""
        return len(await self._end(transaction, (LoginSession.user_id == user_id) & (LoginSession.id != but)))

    async def _end(self, transaction: Transaction, condition: ColumnElement[bool]) -> Sequence[object]:
        return (await transaction.execute(delete(LoginSession).where(condition).returning(LoginSession.id))).all()

    async def purge(self) -> int:
        """Delete the sessions that have expired, and return their number."""
        return await delete_in_batches(self.database, LoginSession, LoginSession.expires_at <= now())


def live_session(session_id: int, user_id: int) -> ColumnElement[bool]:
    """Return the condition of a live session: it is this user's, has not ended, and the user is active."""
    active = select(User.id).where(User.id == user_id, User.is_active).scalar_subquery()
    return (LoginSession.id == session_id) & (LoginSession.user_id == active) & (LoginSession.expires_at > now())
