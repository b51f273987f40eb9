"""Mail: a real server receives exactly what was composed, and nothing that somebody put into it goes anywhere else."""

import asyncio
import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiosmtplib
import msgspec
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from sqlalchemy import select
from structlog.testing import capture_logs
from structlog.typing import EventDict, WrappedLogger

from app.database.sessions import Database
from app.jobs.mail import FileMailer, SmtpMailer, compose, create_mailer
from app.jobs.models import Job
from app.main import create_app
from app.settings import Settings, SettingsError, mailbox, smtp_server
from tests.factories import connect_to, register

SENDER = "Backend API <no-reply@example.org>"
SMTP_URLS = "SMTP_URL must be smtp://"


class Mailbox:
    """What a real SMTP server does with the mails that it takes: it keeps them."""

    def __init__(self) -> None:
        self.envelopes: asyncio.Queue[Envelope] = asyncio.Queue()
        self.sessions: list[Session] = []

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd looks for that name
        self.sessions.append(session)
        self.envelopes.put_nowait(envelope)
        return "250 Taken"

    async def next(self) -> tuple[Envelope, EmailMessage]:
        """The next mail and its envelope."""
        envelope = await asyncio.wait_for(self.envelopes.get(), 15)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default_policy)
        assert isinstance(message, EmailMessage)
        return envelope, message


def knows(_server: SMTP, _session: Session, _envelope: Envelope, _method: str, data: object) -> AuthResult:
    """One user, with a password that a URL can't hold as it is."""
    return AuthResult(success=data == LoginPassword(b"robot", b"p@ss/word:#"), handled=False)


@asynccontextmanager
async def smtp(handler: Mailbox, *, tls: ssl.SSLContext | None = None, implicit: bool = False) -> AsyncIterator[int]:
    """A server on a port of its own; with `tls` it asks for STARTTLS and a password, or speaks TLS from the start."""

    def protocol() -> SMTP:
        if tls and not implicit:
            return SMTP(handler, tls_context=tls, require_starttls=True, authenticator=knows, auth_required=True)
        return SMTP(handler)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls if implicit else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
def handler() -> Mailbox:
    return Mailbox()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The key of a server called `localhost`, whose certificate this process trusts."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs openssl to make a certificate")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [openssl, *options.split(), "-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


def hello(*, to: str = "alice@example.org", subject: str = "Hello", body: str = "Hello\n") -> EmailMessage:
    return compose(sender=SENDER, to=to, subject=subject, body=body)


def headers(message: EmailMessage) -> dict[str, str]:
    return {name: str(value) for name, value in message.items()}


# Composing ------------------------------------------------------------------------------------------------------------


def test_a_message_has_what_every_mail_needs() -> None:
    message = hello(subject="Grüße", body="Schöne Grüße\n")
    assert headers(message) == {
        "From": SENDER,
        "To": "alice@example.org",
        "Subject": "Grüße",
        "Date": message["Date"],
        "Message-ID": message["Message-ID"],
        "Auto-Submitted": "auto-generated",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "8bit",
        "MIME-Version": "1.0",
    }
    assert message["Message-ID"].endswith("@example.org>")
    assert message["Message-ID"] != hello()["Message-ID"]
    assert abs(parsedate_to_datetime(message["Date"]) - datetime.now(UTC)) < timedelta(seconds=5)
    assert message.get_content() == "Schöne Grüße\n"


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n", "\0", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("tail", ["", "Bcc: eve@example.org", " <eve@example.org>"])
def test_no_header_can_be_injected(ending: str, tail: str) -> None:
    for sender, to, subject in (
        (SENDER, "alice@example.org", f"Hello{ending}{tail}"),
        (SENDER, f"alice@example.org{ending}{tail}", "Hello"),
        (SENDER, f"{tail}{ending}alice@example.org", "Hello"),
        (f"API{ending}{tail} <no-reply@example.org>", "alice@example.org", "Hello"),
    ):
        with pytest.raises(ValueError, match=r"."):
            compose(sender=sender, to=to, subject=subject, body="")


@pytest.mark.parametrize(
    "address", ["", "alice", "a@example.org, eve@example.org", "A <a@example.org>", "a b@example.org", "a@example.org>"]
)
def test_a_recipient_is_one_address_alone(address: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        hello(to=address)


def test_the_domain_of_a_recipient_is_the_one_that_was_registered() -> None:
    # By the older rules this would be fass.example.org, somebody else's domain.
    assert hello(to="alice@faß.example.org")["To"] == "alice@xn--fa-hia.example.org"


# By SMTP --------------------------------------------------------------------------------------------------------------


async def test_a_server_receives_exactly_the_message(handler: Mailbox) -> None:
    message = hello(subject="Grüße", body="Grüße\n.\nhttps://example.org/#token=" + "a=" * 200 + "\n")
    async with smtp(handler) as port:
        await SmtpMailer(smtp_server(f"smtp://127.0.0.1:{port}")).send(message)
    envelope, received = await handler.next()
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@example.org", ["alice@example.org"])
    assert headers(received) == headers(message)
    assert received.get_content().replace("\r\n", "\n") == message.get_content()
    assert handler.envelopes.empty()


async def test_a_body_cannot_begin_another_message(handler: Mailbox) -> None:
    smuggled = "\nMAIL FROM:<eve@example.org>\nRCPT TO:<bob@example.org>\nDATA\nFrom: eve\n\nspam\n"
    body = "".join(f"Hello{end}.{end}{smuggled}" for end in ("\n", "\r\n", "\r"))
    async with smtp(handler) as port:
        await SmtpMailer(smtp_server(f"smtp://127.0.0.1:{port}")).send(hello(body=body))
    envelope, _ = await handler.next()
    assert envelope.rcpt_tos == ["alice@example.org"]
    assert handler.envelopes.empty()


async def test_starttls_and_a_password(handler: Mailbox, certificate: ssl.SSLContext) -> None:
    async with smtp(handler, tls=certificate) as port:
        url = f"smtp://robot:p%40ss%2Fword%3A%23@localhost:{port}?starttls=required"
        await SmtpMailer(smtp_server(url)).send(hello())
    await handler.next()
    assert handler.sessions[0].ssl is not None
    assert handler.sessions[0].authenticated


async def test_tls_from_the_start(handler: Mailbox, certificate: ssl.SSLContext) -> None:
    async with smtp(handler, tls=certificate, implicit=True) as port:
        await SmtpMailer(smtp_server(f"smtps://localhost:{port}")).send(hello())
    await handler.next()


async def test_a_wrong_password_is_refused(handler: Mailbox, certificate: ssl.SSLContext) -> None:
    async with smtp(handler, tls=certificate) as port:
        with pytest.raises(aiosmtplib.SMTPAuthenticationError):
            await SmtpMailer(smtp_server(f"smtp://robot:wrong@localhost:{port}")).send(hello())


async def test_a_certificate_that_is_not_trusted_ends_it(
    handler: Mailbox, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    for url, implicit in (("smtp://robot:x@localhost:{}", False), ("smtps://localhost:{}", True)):
        async with smtp(handler, tls=certificate, implicit=implicit) as port:
            with pytest.raises((ssl.SSLCertVerificationError, aiosmtplib.SMTPException)):
                await SmtpMailer(smtp_server(url.format(port))).send(hello())
    assert handler.envelopes.empty()


async def test_where_starttls_is_required_nothing_goes_without_it(handler: Mailbox) -> None:
    async with smtp(handler) as port:
        with pytest.raises(aiosmtplib.SMTPException):
            await SmtpMailer(smtp_server(f"smtp://127.0.0.1:{port}?starttls=required")).send(hello())
    assert handler.envelopes.empty()


async def test_a_server_that_hangs_up_after_taking_the_message_has_it() -> None:
    class HangsUp(Mailbox):
        async def handle_QUIT(self, server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd looks for that name
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
            return "221 Bye"

    async with smtp(HangsUp()) as port:
        await SmtpMailer(smtp_server(f"smtp://127.0.0.1:{port}")).send(hello())


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.mail.SEND_WITHIN_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TimeoutError):
            await SmtpMailer(smtp_server(f"smtp://127.0.0.1:{port}")).send(hello())


# From a request to the server -----------------------------------------------------------------------------------------


async def test_a_registration_mails_the_new_user(settings: Settings, handler: Mailbox) -> None:
    async with smtp(handler) as port:
        url = f"smtp://127.0.0.1:{port}"
        app = create_app(msgspec.structs.replace(settings, smtp_url=url, jobs_in_process=True))
        async with connect_to(app) as client:
            assert (await register(client, "alice")).status_code == 201
            envelope, message = await handler.next()
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@localhost", ["alice@example.org"])
    assert "alice" in message.get_content()


async def test_where_the_server_is_down_requests_go_on_and_mails_wait(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    app = create_app(
        msgspec.structs.replace(settings, smtp_url=f"smtp://robot:hidden@127.0.0.1:{port}", jobs_in_process=True)
    )
    failed = asyncio.Event()

    def notice(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if event["event"] == "job_failed":
            failed.set()
        return event

    with capture_logs(processors=[notice]) as logs:
        async with connect_to(app) as client:
            assert (await register(client, "alice")).status_code == 201
            await asyncio.wait_for(failed.wait(), 15)
    database = Database(settings.database_url)
    jobs = select(Job.attempt, Job.last_error, Job.failed_at).where(Job.attempt > 0)
    [job] = await database.fetch(jobs, {})
    await database.close()
    assert job == (1, "SMTPConnectError", None)
    for text in ("alice", "hidden", "robot"):
        assert text not in str(logs)


# Into files -----------------------------------------------------------------------------------------------------------


async def test_without_a_server_mails_are_files_that_only_the_owner_reads(tmp_path: Path) -> None:
    settings = Settings(secret_key="x" * 32, mail_dir=str(tmp_path / "a" / "outbox"))
    message = hello(subject="Grüße", body="https://example.org/#token=abc\n")
    with capture_logs() as logs:
        await create_mailer(settings).send(message)
    assert logs == [{"event": "mail_written", "path": logs[0]["path"], "log_level": "info"}]
    check_file(Path(logs[0]["path"]))


def check_file(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    lines = path.read_text().splitlines()
    assert "Subject: Grüße" in lines
    assert "https://example.org/#token=abc" in lines


async def test_no_two_mails_share_a_file(tmp_path: Path) -> None:
    mailer = FileMailer(tmp_path)
    await asyncio.gather(*(mailer.send(hello()) for _ in range(20)))
    assert len(list(tmp_path.glob("*.eml"))) == 20  # noqa: ASYNC240 - a moment's work


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "port", "tls", "start_tls"),
    [
        ("smtp://mail.example.org", 587, False, True),
        ("smtp://mail.example.org:25?starttls=auto", 25, False, None),
        ("smtp://mail?starttls=never", 587, False, False),
        ("smtp://localhost:1025/", 1025, False, None),
        ("smtp://[::1]", 587, False, None),
        ("smtp://127.0.0.1?starttls=required", 587, False, True),
        ("smtps://mail.example.org", 465, True, False),
    ],
)
def test_the_url_says_how_tls_begins(url: str, port: int, *, tls: bool, start_tls: bool | None) -> None:
    server = smtp_server(url)
    assert (server.port, server.tls, server.start_tls) == (port, tls, start_tls)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.org",
        "http://robot:hidden@mail.example.org",
        "smtp://",
        "smtp://robot:hidden@mail.example.org:port",
        "smtp://robot:hidden@mail.example.org:99999",
        "smtp://robot@mail.example.org",
        "smtp://robot:hid#den@mail.example.org",
        "smtp://mail.example.org/path",
        "smtp://mail.example.org?starttls=perhaps",
        "smtp://mail.example.org?tls=1",
        "smtps://mail.example.org?starttls=never",
    ],
)
def test_a_bad_smtp_url_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(SettingsError, match=SMTP_URLS) as raised:
        Settings.load({"SECRET_KEY": "x" * 32, "SMTP_URL": url})
    assert "hid" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["a", "@", "a@", "@b", "a@b, c@d", "A <a@b> x", "A\n<a@b>", "a b@c", "<>"])
def test_a_bad_sender_is_one_line(text: str) -> None:
    with pytest.raises(SettingsError, match="MAIL_FROM must be an address"):
        Settings.load({"SECRET_KEY": "x" * 32, "MAIL_FROM": text})


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("no-reply@localhost", "", "no-reply@localhost"),
        ("Acme Inc. <a@example.org>", "Acme Inc.", "a@example.org"),
        ('"Acme, Zoë" <a@example.org>', "Acme, Zoë", "a@example.org"),
    ],
)
def test_a_sender_may_have_a_name(text: str, name: str, address: str) -> None:
    sender = mailbox(text)
    assert (sender.display_name, sender.addr_spec) == (name, address)
