"""The jobs that mail users about their accounts, after the requests that caused the mails."""

from app.jobs.mail import MailSender
from app.jobs.models import Payload
from app.jobs.worker import JobHandler
from app.security.tokens import VERIFICATION, Tokens
from app.users.repository import UserRepository
from app.users.service import ADDRESS_CHANGED_MAIL, VERIFICATION_LIFETIME, VERIFICATION_MAIL, address_state

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


class AccountMails:
    """The mails about accounts. A job's payload has ids; its token is made when the mail is, and stored nowhere."""

    def __init__(self, users: UserRepository, mail: MailSender, tokens: Tokens) -> None:
        self.users = users
        self.mail = mail
        self.tokens = tokens

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """The handler of each kind of job."""
        return {VERIFICATION_MAIL: self.verify_address, ADDRESS_CHANGED_MAIL: self.address_changed}

    async def verify_address(self, payload: Payload) -> None:
        """Mail a token to an address that isn't verified, with which its owner confirms it."""
        user = await self.users.recipient(int(payload["user_id"]))
        if user and not user.email_verified:
            state = address_state(user.email, user.email_version)
            token = self.tokens.issue(VERIFICATION, user.id, VERIFICATION_LIFETIME, state=state)
            await self.mail.send(user.email, "Confirm your e-mail address", VERIFY, username=user.username, token=token)

    async def address_changed(self, payload: Payload) -> None:
        """Mail the old address that it is no longer the account's."""
        user = await self.users.recipient(int(payload["user_id"]))
        if user:
            old, subject = str(payload["old_address"]), "Your e-mail address was changed"
            await self.mail.send(old, subject, ADDRESS_CHANGED, username=user.username, email=user.email)
