"""The mails about accounts, sent after the request that caused them."""

from sqlalchemy import select

from app.db import Database
from app.mail import Postman
from app.security import VERIFICATION, Tokens, fingerprint
from app.users.models import User
from app.users.service import VERIFICATION_LIFETIME

VERIFY = """\
Hello {username},

confirm within 24 hours that this address is yours:

{url}/email-verification/confirm#token={token}

If you have no account at {url}, ignore this mail.
"""
ADDRESS_CHANGED = """\
Hello {username},

the e-mail address of your account at {url} is now {email}.

If it wasn't you who changed it, sign in, change it back and choose a new password.
"""

PERSON = select(User.id, User.username, User.email, User.email_key, User.email_verified)


class AccountMails:
    """Runs the jobs of accounts. A job holds ids; its token is made when its mail is, and is stored nowhere."""

    def __init__(self, database: Database, postman: Postman, tokens: Tokens) -> None:
        self.database = database
        self.postman = postman
        self.tokens = tokens

    async def verify_address(self, payload: dict[str, str | int]) -> None:
        """Ask the owner of an address that isn't verified to confirm it."""
        for user in await self.database.fetch(PERSON.where(User.id == payload["user_id"]), {}):
            if not user.email_verified:
                state = fingerprint(user.email_key)
                token = self.tokens.issue(VERIFICATION, user.id, VERIFICATION_LIFETIME, state=state)
                await self.postman.send(
                    user.email, "Confirm your e-mail address", VERIFY, username=user.username, token=token
                )

    async def address_changed(self, payload: dict[str, str | int]) -> None:
        """Tell the old address that it is no longer the account's."""
        for user in await self.database.fetch(PERSON.where(User.id == payload["user_id"]), {}):
            await self.postman.send(
                str(payload["old_address"]),
                "Your e-mail address was changed",
                ADDRESS_CHANGED,
                username=user.username,
                email=user.email,
            )
