"""Changing a password, and setting a new one after it was forgotten."""

from datetime import timedelta

from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.auth.service import end_sessions
from app.db import again_after_deadlock
from app.errors import BadRequest
from app.jobs import enqueue
from app.limits import Client
from app.logs import security_event
from app.security import RESET, InvalidTokenError, fingerprint
from app.users.models import User
from app.users.service import Caller, UserService, WrongPassword

RESET_LIFETIME = timedelta(minutes=10)
RESET_MAIL = "password_reset_mail"
CHANGED_MAIL = "password_changed_mail"

CREDENTIALS = select(User.id, User.username, User.email, User.email_key, User.hashed_password)


class InvalidResetToken(BadRequest):
    """The token is forged, used or too old, or password or address have been changed since it was mailed."""

    detail = "The token is invalid, expired or used"


def reset_state(hashed_password: str, email_key: str) -> str:
    """What a reset token is bound to: the password that it replaces, and the address that it was mailed to."""
    return fingerprint(f"{hashed_password} {email_key}")


class CredentialService:
    """Sets passwords; it opens its own transactions, since no hash may be computed inside one."""

    def __init__(self, users: UserService) -> None:
        self.users = users
        self.database = users.database
        self.passwords = users.passwords
        self.tokens = users.tokens
        self.policy = users.policy

    async def change(self, caller: Caller, current: str, new: str) -> None:
        """Set a new password and end every other session. Raises WrongPassword, TooManyRequests, InvalidFields."""
        user = await self.users.check_password(caller, current)
        self.policy.check(new, username=user.username, email=user.email, pointer="/new_password")
        if not await self._set(user.id, user.hashed_password, new, keep_session=caller.session_id):
            raise WrongPassword  # somebody else has just changed it
        caller.note("password_changed")

    async def reset(self, token: str, new: str, client: Client) -> None:
        """Set a new password by a mailed token, and end every session. Raises InvalidResetToken and InvalidFields."""
        try:
            user_id = await self._reset(token, new)
        except InvalidResetToken:
            security_event("password_reset_failed", address=client.address)
            raise
        security_event("password_reset", user_id=user_id, address=client.address)

    async def _reset(self, token: str, new: str) -> int:
        """Set the password of whom the token is for, and tell who that is."""
        try:
            claims = self.tokens.read(RESET, token)
        except InvalidTokenError:
            raise InvalidResetToken from None
        rows = await self.database.fetch(CREDENTIALS.where(User.id == claims.user_id, User.is_active), {})
        if not rows or reset_state(rows[0].hashed_password, rows[0].email_key) != claims.state:
            raise InvalidResetToken
        self.policy.check(new, username=rows[0].username, email=rows[0].email, pointer="/new_password")
        if not await self._set(claims.user_id, rows[0].hashed_password, new, keep_session=0):
            raise InvalidResetToken
        return claims.user_id

    @again_after_deadlock
    async def _set(self, user_id: int, old_hash: str, new: str, *, keep_session: int) -> bool:
        """Replace that very hash: of two at once, one finds it there still."""
        hashed = await self.passwords.hash(new)
        unchanged = (User.id == user_id) & (User.hashed_password == old_hash)
        replace = update(User).where(unchanged).values(hashed_password=hashed).returning(User.id)
        async with self.database.transaction() as session:
            if not (await session.execute(replace)).first():
                return False
            await end_sessions(session, (LoginSession.user_id == user_id) & (LoginSession.id != keep_session))
            await enqueue(session, CHANGED_MAIL, {"user_id": user_id})
        return True
