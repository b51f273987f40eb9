"""The jobs that mail users about changes of their second factors, after the requests that caused the mails."""

import textwrap
from functools import partial
from typing import NamedTuple

from app.database.sessions import Transaction
from app.factors.repository import FactorRepository, Owner
from app.jobs.mail import MailSender
from app.jobs.mailboxes import NOTICES, MailQueue, Quota
from app.jobs.models import Payload
from app.jobs.worker import JobHandler
from app.users.models import address_key

TOTP_ADDED = "totp_added_mail"
TOTP_REMOVED = "totp_removed_mail"
CODES_REPLACED = "recovery_codes_mail"
WRONG_CODES_MAIL = "wrong_codes_mail"
PASSKEY_ADDED = "passkey_added_mail"
PASSKEY_REMOVED = "passkey_removed_mail"
FACTORS_RESET = "factors_reset_mail"


class Notice(NamedTuple):
    """A mail about second factors: its subject, the sentence that says what happened, and what to do if it's wrong."""

    subject: str
    event: str
    advice: str = "If it wasn't you, choose a new password at once, and look at your sessions and second factors."


TEXT = """\
Hello {username},

{event}

{advice}
"""
MAILS = {
    TOTP_ADDED: Notice(
        "Your second factor is on",
        "signing in to your account at {url} now needs a code of your authenticator app, too. Every other session was "
        "ended.",
    ),
    TOTP_REMOVED: Notice(
        "Your second factor is off",
        "the authenticator app of your account at {url} was removed, with its recovery codes.",
    ),
    CODES_REPLACED: Notice(
        "You have new recovery codes",
        "your account at {url} has new recovery codes; the old ones are void.",
    ),
    WRONG_CODES_MAIL: Notice(
        "Somebody may know your password",
        "somebody signed in to your account at {url} with the right password, and then ten times with a wrong code. "
        "Until a quarter of an hour has passed, nobody can sign in with the password.",
        "If it wasn't you, choose a new password: somebody else knows it.",
    ),
    PASSKEY_ADDED: Notice(
        "You have a new passkey",
        "a passkey was added to your account at {url}. It signs in without your password.",
    ),
    PASSKEY_REMOVED: Notice(
        "A passkey was removed",
        "a passkey of your account at {url} was removed. It doesn't sign in any more.",
    ),
    FACTORS_RESET: Notice(
        "Your second factors were removed",
        "whoever runs {url} has removed the authenticator app, the recovery codes and the passkeys of your account. "
        "You were signed out everywhere. The password alone signs in until you add them again.",
        "If you didn't ask for it, tell them at once.",
    ),
}


class FactorMails:
    """The mails about second factors. They go to the address that the account had when it happened."""

    def __init__(self, factors: FactorRepository, mails: MailQueue, mail: MailSender) -> None:
        self.factors = factors
        self.mails = mails
        self.mail = mail

    @property
    def handlers(self) -> dict[str, JobHandler]:
        """The handler of each kind of job."""
        return {kind: partial(self.send, notice) for kind, notice in MAILS.items()}

    async def enqueue(self, transaction: Transaction, kind: str, user_id: int) -> None:
        """Enqueue a mail to a user."""
        await self.enqueue_to(transaction, kind, await self.factors.owner(transaction, user_id))

    async def enqueue_to(self, transaction: Transaction, kind: str, owner: Owner) -> None:
        """Enqueue a mail to a user who has been read already."""
        quota = Quota.of(NOTICES, address_key(owner.email), owner.id, confirmed=owner.email_verified)
        payload: Payload = {"username": owner.username, "address": owner.email}
        await self.mails.enqueue(transaction, kind, payload, quota)

    async def send(self, notice: Notice, payload: Payload) -> None:
        """Send a mail."""
        event = lines(notice.event.format(url=self.mail.url))
        values = {"username": str(payload["username"]), "event": event, "advice": lines(notice.advice)}
        await self.mail.send(str(payload["address"]), notice.subject, TEXT, **values)


def lines(text: str) -> str:
    """Return a sentence in lines that every mail program shows whole; an address in it isn't broken."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
