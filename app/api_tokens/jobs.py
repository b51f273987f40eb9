"""The job that tells a user of a new API token, after the request that made it."""

from app.api_tokens.service import CREATED_MAIL
from app.auth.repository import CredentialRepository
from app.jobs.mail import MailSender
from app.jobs.models import Payload
from app.jobs.worker import JobHandler

CREATED_TEXT = """\
Hello {username},

an API token was made for your account at {url}: "{name}".

It may do this as you: {scope}.

If it wasn't you who made it, ask for a new password by "forgot password": that ends all tokens and sessions. To change
the password ends no token.
"""


class ApiTokenMails:
    """The mails about API tokens."""

    def __init__(self, credentials: CredentialRepository, mail: MailSender) -> None:
        self.credentials = credentials
        self.mail = mail

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """The handler of each kind of job."""
        return {CREATED_MAIL: self.token_created}

    async def token_created(self, payload: Payload) -> None:
        """Mail the owner that a token was made, to the address that the account had then."""
        user = await self.credentials.by_id(int(payload["user_id"]))
        if user:
            # The name is one line, whatever was sent: it may be a thief's, who would write a mail of their own.
            name, scope = " ".join(str(payload["name"]).split()), str(payload["scope"]).replace(" ", ", ")
            values = {"username": user.username, "name": name, "scope": scope}
            await self.mail.send(str(payload["address"]), "A new API token", CREATED_TEXT, **values)
