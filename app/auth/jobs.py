"""The jobs that mail users about their passwords, after the requests that caused the mails."""

from app.auth.credentials import CHANGED_MAIL, RESET_LIFETIME, RESET_LINK_MAIL, RESET_MAIL, mail_quota, reset_state
from app.auth.repository import CredentialRepository
from app.jobs.mail import MailSender
from app.jobs.mailboxes import RESETS, MailQueue
from app.jobs.models import Payload
from app.jobs.worker import JobHandler
from app.security.tokens import RESET, Tokens

RESET_TEXT = """\
Hello {username},

somebody, hopefully you, asked to set a new password for your account. You can within 10 minutes:

{way}

If it wasn't you, ignore this mail; your password stays as it is.
"""
CHANGED_TEXT = """\
Hello {username},

the password of your account at {url} was just changed, and every other session was ended.

If it wasn't you, ask for a new password at once.
"""


class CredentialMails:
    """The mails about passwords. A job's payload has no token: that is made when the mail is, and stored nowhere."""

    def __init__(self, credentials: CredentialRepository, mails: MailQueue, mail: MailSender, tokens: Tokens) -> None:
        self.credentials = credentials
        self.mails = mails
        self.mail = mail
        self.tokens = tokens

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """The handler of each kind of job."""
        return {
            RESET_MAIL: self.find_account,
            RESET_LINK_MAIL: self.reset_password,
            CHANGED_MAIL: self.password_changed,
        }

    async def find_account(self, payload: Payload) -> None:
        """Enqueue the mail to the active account with an address; when there is none, do nothing."""
        user = await self.credentials.by_name(str(payload["email"]))
        if user and user.is_active:
            async with self.credentials.database.transaction() as transaction:
                await self.mails.enqueue(transaction, RESET_LINK_MAIL, {"user_id": user.id}, mail_quota(RESETS, user))

    async def reset_password(self, payload: Payload) -> None:
        """Mail a token to an active account."""
        user = await self.credentials.by_id(int(payload["user_id"]))
        if user and user.is_active:
            token = self.tokens.issue(RESET, user.id, RESET_LIFETIME, state=reset_state(user))
            way = self.mail.way("reset-password", token)
            await self.mail.send(user.email, "Set a new password", RESET_TEXT, username=user.username, way=way)

    async def password_changed(self, payload: Payload) -> None:
        """Mail the owner that the password was changed, to the address that the account had then."""
        user = await self.credentials.by_id(int(payload["user_id"]))
        if user:
            address = str(payload.get("address", user.email))  # The release before enqueued none.
            await self.mail.send(address, "Your password was changed", CHANGED_TEXT, username=user.username)
