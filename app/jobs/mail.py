"""Mail: plain text messages to one address each, sent by SMTP or, where there is no server, written as files."""

import asyncio
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default as default_policy
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Protocol

import aiosmtplib
import structlog
from anyio import to_thread
from email_validator import validate_email

from app.database.models import now
from app.settings import Settings
from app.settings.addresses import SmtpServer, mailbox, smtp_server

ANSWER_WITHIN_SECONDS = 15
SEND_WITHIN_SECONDS = 25
QUIT_WITHIN_SECONDS = 1
# Answers from this code on are permanent (RFC 5321, section 4.2.1).
PERMANENT = 500
MAILBOX_NAME_NOT_ALLOWED = 553
# All characters that could end the line of a header for some program that reads it.
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

log = structlog.stdlib.get_logger("mail")


class MailRefusedError(Exception):
    """The server refuses a recipient or a message for good, by `code`: another try would be refused, too."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class Mailer(Protocol):
    """A transport that sends messages."""

    async def send(self, message: EmailMessage) -> None:
        """Send a message. Raise MailRefusedError; after any other error it may or may not have been sent."""


class SmtpMailer:
    """A transport by SMTP, with one connection for each message."""

    def __init__(self, server: SmtpServer) -> None:
        self.server = server

    async def send(self, message: EmailMessage) -> None:
        """Send a message to the server, within SEND_WITHIN_SECONDS.

        Raise MailRefusedError, aiosmtplib.SMTPException and OSError.
        """
        client = self._client()
        try:
            async with asyncio.timeout(SEND_WITHIN_SECONDS):
                await client.connect()
                with permanent_refusals():
                    await client.send_message(message)
            # The server has accepted the message: an error from here on must not have it sent again.
            with suppress(aiosmtplib.SMTPException):
                await client.quit(timeout=QUIT_WITHIN_SECONDS)
        finally:
            client.close()

    async def check(self) -> None:
        """Sign in to the server, and send nothing. Raise as `send` does."""
        client = self._client()
        try:
            async with asyncio.timeout(SEND_WITHIN_SECONDS):
                await client.connect()
                await client.quit(timeout=QUIT_WITHIN_SECONDS)
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        server = self.server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username or None,
            password=server.password or None,
            use_tls=server.tls,
            start_tls=server.start_tls,
            timeout=ANSWER_WITHIN_SECONDS,
        )


class FileMailer:
    """A transport for development, which writes each message to a file that only the process's user can read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def send(self, message: EmailMessage) -> None:
        """Write a message to a file, which gets its name when it is complete. Raise OSError."""
        path = await to_thread.run_sync(self._write, message.as_bytes(policy=default_policy.clone(utf8=True)))
        log.info("mail_written", path=str(path))

    def _write(self, content: bytes) -> Path:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / f"{now():%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        draft = path.with_suffix(".tmp")
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
        return draft.replace(path)


class MailSender:
    """The sender of the application's own mails."""

    def __init__(self, mailer: Mailer, *, sender: str, url: str, account_url: str = "") -> None:
        """Send from the mailbox `sender`; `url` is that of the service, which every text may name.

        `account_url` is where the pages are that take a mail's token; it is empty where there are none.
        """
        self.mailer = mailer
        self.sender = sender
        self.url = url
        self.account_url = account_url

    async def send(self, to: str, subject: str, text: str, **values: str) -> None:
        """Send a text to one address, its placeholders replaced by `values`. Raise as Mailer and `compose` do.

        A mail that the server refuses for good is logged, and no error: the mailbox isn't there, or takes no such mail,
        and nobody who runs the service can change that.
        """
        body = text.format(url=self.url, **values)
        try:
            await self.mailer.send(compose(sender=self.sender, to=to, subject=subject, body=body))
        except MailRefusedError as refusal:
            log.warning("mail_bounced", code=refusal.code)

    def way(self, page: str, token: str) -> str:
        """Return a mail's lines on how to use a token: a link to a page, if there is one, and the token by itself.

        The token stands behind a #, where no server sees it. Whose browser runs no script types or pastes it.
        """
        if not self.account_url:
            return f"The token for it is:\n\n{token}"
        return f"{self.account_url}/{page}#token={token}\n\nIf the page asks for a token, enter this one:\n\n{token}"


@contextmanager
def permanent_refusals() -> Generator[None]:
    """Raise MailRefusedError where the server refuses the one recipient, or the message, with a code of 5xx.

    A sender that is refused, and a name and password, are the operator's to mend; so they stay errors of the server.
    """
    try:
        yield
    except aiosmtplib.SMTPNotSupported:  # The server takes no address that isn't ASCII (RFC 6531).
        raise MailRefusedError(MAILBOX_NAME_NOT_ALLOWED) from None
    except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPDataError) as error:
        answers = error.recipients if isinstance(error, aiosmtplib.SMTPRecipientsRefused) else [error]
        code = max(answer.code for answer in answers)
        if code < PERMANENT:
            raise
        raise MailRefusedError(code) from None


def create_mailer(settings: Settings) -> Mailer:
    """Return the transport: SMTP where SMTP_URL names a server, else files in MAIL_DIR."""
    return SmtpMailer(smtp_server(settings.smtp_url)) if settings.smtp_url else FileMailer(Path(settings.mail_dir))


def compose(*, sender: str, to: str, subject: str, body: str) -> EmailMessage:
    """Return a message (RFC 5322), marked so that no program answers it (RFC 3834).

    `sender` is a mailbox, which may have a name, and `to` an address. Raise ValueError when either isn't one, or when
    the subject has more than one line.
    """
    author = mailbox(sender)
    message = EmailMessage()
    message["From"] = author
    message["To"] = recipient_address(to)
    message["Subject"] = header_value(subject)
    message["Date"] = format_datetime(now())
    # By default the domain would be this machine's name, which takes a DNS query.
    message["Message-ID"] = make_msgid(domain=author.domain)
    message["Auto-Submitted"] = "auto-generated"
    # The lines stay as they are: other encodings break a link into pieces, which can't be copied from a file.
    message.set_content(body, cte="8bit")
    return message


def recipient_address(address: str) -> Address:
    """Return an address for a header and the SMTP server, with its domain in ASCII. Raise ValueError."""
    parts = validate_email(header_value(address), check_deliverability=False)
    return Address(username=parts.local_part, domain=parts.ascii_domain)


def header_value(text: str) -> str:
    """Return a text unchanged. Raise ValueError when it could end the header whose value it is."""
    if CONTROL_CHARACTERS.search(text):
        raise ValueError("A header is one line of text")
    return text
