"""The jobs that mail users about their passwords, after the requests that caused the mails."""

from app.auth.credentials import CHANGED_MAIL, RESET_LIFETIME, RESET_MAIL, reset_state
from app.auth.repository import CredentialRepository
from app.jobs.mail import MailSender
from app.jobs.models import Payload
from app.jobs.worker import JobHandler
from app.security.tokens import RESET, Tokens

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


class CredentialMails:
    """The mails about passwords. A job's payload has no token: that is made when the mail is, and stored nowhere."""

    def __init__(self, credentials: CredentialRepository, mail: MailSender, tokens: Tokens) -> None:
        self.credentials = credentials
        self.mail = mail
        self.tokens = tokens

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """The handler of each kind of job."""
        return {RESET_MAIL: self.reset_password, CHANGED_MAIL: self.password_changed}

    async def reset_password(self, payload: Payload) -> None:
        """Mail a token to the active account with that address; when there is none, do nothing."""
        user = await self.credentials.by_name(str(payload["email"]))
        if user and user.is_active:
            token = self.tokens.issue(RESET, user.id, RESET_LIFETIME, state=reset_state(user))
            await self.mail.send(user.email, "Set a new password", RESET_TEXT, username=user.username, token=token)

    async def password_changed(self, payload: Payload) -> None:
        """Mail the owner that the password was changed."""
        user = await self.credentials.by_id(int(payload["user_id"]))
        if user:
            await self.mail.send(user.email, "Your password was changed", CHANGED_TEXT, username=user.username)
