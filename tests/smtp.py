"""A mail server on this machine, and the mails that it takes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

CREDENTIALS = LoginPassword(b"robot", b"p@ss/word:#")
"""The one user of a server that wants a password, which a URL can't hold as it is."""


class Mailbox:
    """The mails that a server has taken."""

    def __init__(self) -> None:
        self.envelopes: asyncio.Queue[Envelope] = asyncio.Queue()
        self.sessions: list[Session] = []

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd looks for that name
        self.sessions.append(session)
        self.envelopes.put_nowait(envelope)
        return "250 Taken"

    async def next(self, within_seconds: float = 15) -> tuple[Envelope, EmailMessage]:
        """Wait for the next mail; return its envelope and itself."""
        envelope = await asyncio.wait_for(self.envelopes.get(), within_seconds)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default_policy)
        assert isinstance(message, EmailMessage)
        return envelope, message


def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _method: str, data: object) -> AuthResult:
    """Let the one user in."""
    return AuthResult(success=data == CREDENTIALS, handled=False)


@asynccontextmanager
async def smtp(
    mailbox: Mailbox, *, port: int = 0, tls: ssl.SSLContext | None = None, implicit: bool = False
) -> AsyncIterator[int]:
    """Run a server and give its port, by default a free one.

    With `tls` it wants STARTTLS and a password, or with `implicit` speaks TLS from the start.
    """

    def protocol() -> SMTP:
        if tls and not implicit:
            return SMTP(mailbox, tls_context=tls, require_starttls=True, authenticator=authenticate, auth_required=True)
        return SMTP(mailbox)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, ssl=tls if implicit else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
