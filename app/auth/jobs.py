"""The mails about passwords, sent after the request that caused them, and the daily clean-up of sessions."""

from sqlalchemy import delete, select

from app.auth.credentials import RESET_LIFETIME, reset_state
from app.auth.models import LoginSession
from app.db import Database, now
from app.mail import Postman
from app.security import RESET, Tokens
from app.users.models import User
from app.users.service import name_key

RESET_TEXT = """\
Hello {username},

somebody, hopefully you, asked to set a new password for your account. Within 10 minutes, go to:

{url}/password-reset/confirm#token={token}

If it wasn't you, ignore this mail; your password stays as it is.
"""
CHANGED_TEXT = """\
Hello {username},

the password of your account at {url} was just changed, and every other session was ended.

If it wasn't you, ask for a new password at once.
"""

PERSON = select(User.id, User.username, User.email, User.email_key, User.hashed_password)


class CredentialMails:
    """Runs the jobs of credentials. A job holds ids; its token is made when its mail is, and is stored nowhere."""

    def __init__(self, database: Database, postman: Postman, tokens: Tokens) -> None:
        self.database = database
        self.postman = postman
        self.tokens = tokens

    async def reset_password(self, payload: dict[str, str | int]) -> None:
        """Mail a token to the account with that address; where there is none, nothing is sent and nobody is told."""
        known = (User.email_key == name_key(str(payload["email"]))) & User.is_active
        for user in await self.database.fetch(PERSON.where(known), {}):
            state = reset_state(user.hashed_password, user.email_key)
            token = self.tokens.issue(RESET, user.id, RESET_LIFETIME, state=state)
            await self.postman.send(user.email, "Set a new password", RESET_TEXT, username=user.username, token=token)

    async def password_changed(self, payload: dict[str, str | int]) -> None:
        """Tell the owner that the password was changed."""
        for user in await self.database.fetch(PERSON.where(User.id == payload["user_id"]), {}):
            await self.postman.send(user.email, "Your password was changed", CHANGED_TEXT, username=user.username)


async def purge_sessions(database: Database) -> int:
    """Delete the sessions that have ended by themselves; how many there were."""
    ended = delete(LoginSession).where(LoginSession.expires_at <= now()).returning(LoginSession.id)
    async with database.transaction() as session:
        return len((await session.execute(ended)).all())
