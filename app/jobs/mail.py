"""Mail: plain text messages to one address each, sent by SMTP or, where there is no server, written as files."""

import asyncio
import os
import re
import secrets
from contextlib import suppress
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
from app.settings import Settings, SmtpServer, mailbox, smtp_server

ANSWER_WITHIN_SECONDS = 15
SEND_WITHIN_SECONDS = 25
QUIT_WITHIN_SECONDS = 1
# Whatever could end a header's line, for any reader of it.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

log = structlog.stdlib.get_logger("mail")


class Mailer(Protocol):
    """A way for messages to leave the service."""

    async def send(self, message: EmailMessage) -> None:
        """Pass a message on. Whatever this raises, the message may not have gone."""


class SmtpMailer:
    """Passes messages to a server, each over a connection of its own."""

    def __init__(self, server: SmtpServer) -> None:
        self.server = server

    async def send(self, message: EmailMessage) -> None:
        """Have the server take the message. Raise aiosmtplib.SMTPException and OSError, time-outs among them."""
        server = self.server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username or None,
            password=server.password or None,
            use_tls=server.tls,
            start_tls=server.start_tls,
            timeout=ANSWER_WITHIN_SECONDS,
        )
        try:
            async with asyncio.timeout(SEND_WITHIN_SECONDS):
                await client.connect()
                await client.send_message(message)
            # The server has taken the message: no failure from here on may have it sent again.
            with suppress(aiosmtplib.SMTPException):
                await client.quit(timeout=QUIT_WITHIN_SECONDS)
        finally:
            client.close()


class FileMailer:
    """Writes each message into a file of its own, for development; only its owner can read them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def send(self, message: EmailMessage) -> None:
        """Write the message; its file appears under its name when it is whole. Raise OSError."""
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
    """Sends the application's own texts."""

    def __init__(self, mailer: Mailer, *, sender: str, url: str) -> None:
        """`sender` is whom the mails come from, `url` where the service is, which every text may name."""
        self.mailer = mailer
        self.sender = sender
        self.url = url

    async def send(self, to: str, subject: str, text: str, **values: str) -> None:
        """Fill a text in and send it to one address."""
        body = text.format(url=self.url, **values)
        await self.mailer.send(compose(sender=self.sender, to=to, subject=subject, body=body))


def create_mailer(settings: Settings) -> Mailer:
    """Return what sends by SMTP where SMTP_URL names a server, else what writes into the files of MAIL_DIR."""
    return SmtpMailer(smtp_server(settings.smtp_url)) if settings.smtp_url else FileMailer(Path(settings.mail_dir))


def compose(*, sender: str, to: str, subject: str, body: str) -> EmailMessage:
    """Return a message (RFC 5322), marked as one that no machine should answer (RFC 3834).

    `sender` may have a name before its address, `to` is an address alone. Raise ValueError when either isn't one, or a
    header would have more than one line.
    """
    author = mailbox(sender)
    message = EmailMessage()
    message["From"] = author
    message["To"] = recipient(to)
    message["Subject"] = one_line(subject)
    message["Date"] = format_datetime(now())
    # By default the domain would be this machine's own name, after a look-up.
    message["Message-ID"] = make_msgid(domain=author.domain)
    message["Auto-Submitted"] = "auto-generated"
    # Lines as they are: a link that is cut into encoded pieces can't be copied from a file.
    message.set_content(body, cte="8bit")
    return message


def recipient(address: str) -> Address:
    """Return an address as a header and the server take it, its domain in ASCII. Raise ValueError."""
    parts = validate_email(one_line(address), check_deliverability=False)
    return Address(username=parts.local_part, domain=parts.ascii_domain)


def one_line(text: str) -> str:
    """Return the text itself. Raise ValueError when it could end the header that it is in."""
    if CONTROL.search(text):
        raise ValueError("A header is one line of text")
    return text
