"""Mail: a server receives exactly the message that was composed, and no part of it goes to anybody else."""

import asyncio
import shutil
import socket
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiosmtplib
import msgspec
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from structlog.testing import capture_logs

from app.jobs.mail import FileMailer, MailRefusedError, SmtpMailer, compose, create_mailer
from app.main import create_app
from app.settings import Settings
from app.settings.addresses import smtp_server
from tests.factories import connect_to, open_database, register
from tests.jobs.workers import SOON_SECONDS, jobs_in, logged
from tests.programs import free_port
from tests.smtp import Mailbox, smtp

SENDER = "Backend API <no-reply@example.org>"


@pytest.fixture
def mailbox() -> Mailbox:
    """The mails that the test's server takes."""
    return Mailbox()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The key of a server called `localhost`, with a certificate that this process trusts."""
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


async def send(url: str, message: EmailMessage | None = None) -> None:
    """Send a message to the server of a URL."""
    await SmtpMailer(smtp_server(url)).send(message or hello())


def hello(*, to: str = "alice@example.org", subject: str = "Hello", body: str = "Hello\n") -> EmailMessage:
    """Return a message that says hello."""
    return compose(sender=SENDER, to=to, subject=subject, body=body)


def headers(message: EmailMessage) -> dict[str, str]:
    """Return a message's headers."""
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


async def test_a_server_receives_exactly_the_message(mailbox: Mailbox) -> None:
    message = hello(subject="Grüße", body="Grüße\n.\nhttps://example.org/#token=" + "a=" * 200 + "\n")
    async with smtp(mailbox) as port:
        await send(f"smtp://127.0.0.1:{port}", message)
    envelope, received = await mailbox.next()
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@example.org", ["alice@example.org"])
    assert headers(received) == headers(message)
    assert received.get_content().replace("\r\n", "\n") == message.get_content()
    assert mailbox.envelopes.empty()


async def test_a_body_cannot_begin_another_message(mailbox: Mailbox) -> None:
    smuggled = "\nMAIL FROM:<eve@example.org>\nRCPT TO:<bob@example.org>\nDATA\nFrom: eve\n\nspam\n"
    body = "".join(f"Hello{end}.{end}{smuggled}" for end in ("\n", "\r\n", "\r"))
    async with smtp(mailbox) as port:
        await send(f"smtp://127.0.0.1:{port}", hello(body=body))
    envelope, _ = await mailbox.next()
    assert envelope.rcpt_tos == ["alice@example.org"]
    assert mailbox.envelopes.empty()


async def test_starttls_and_a_password(mailbox: Mailbox, certificate: ssl.SSLContext) -> None:
    async with smtp(mailbox, tls=certificate) as port:
        await send(f"smtp://robot:p%40ss%2Fword%3A%23@localhost:{port}?starttls=required")
    await mailbox.next()
    assert mailbox.sessions[0].ssl is not None
    assert mailbox.sessions[0].authenticated


async def test_tls_from_the_start(mailbox: Mailbox, certificate: ssl.SSLContext) -> None:
    async with smtp(mailbox, tls=certificate, implicit=True) as port:
        await send(f"smtps://localhost:{port}")
    await mailbox.next()


async def test_a_wrong_password_is_refused(mailbox: Mailbox, certificate: ssl.SSLContext) -> None:
    async with smtp(mailbox, tls=certificate) as port:
        with pytest.raises(aiosmtplib.SMTPAuthenticationError):
            await send(f"smtp://robot:wrong@localhost:{port}")


@pytest.mark.parametrize(
    ("url", "implicit"),
    [("smtp://robot:x@localhost:{}", False), ("smtps://localhost:{}", True)],
    ids=["STARTTLS", "TLS from the start"],
)
async def test_a_certificate_that_is_not_trusted_ends_it(
    mailbox: Mailbox, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, url: str, *, implicit: bool
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with smtp(mailbox, tls=certificate, implicit=implicit) as port:
        with pytest.raises((ssl.SSLCertVerificationError, aiosmtplib.SMTPException)):
            await send(url.format(port))
    assert mailbox.envelopes.empty()


async def test_where_starttls_is_required_nothing_goes_without_it(mailbox: Mailbox) -> None:
    async with smtp(mailbox) as port:
        with pytest.raises(aiosmtplib.SMTPException):
            await send(f"smtp://127.0.0.1:{port}?starttls=required")
    assert mailbox.envelopes.empty()


async def test_a_server_that_hangs_up_after_taking_the_message_has_it() -> None:
    class HangsUp(Mailbox):
        async def handle_QUIT(self, server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd looks for that name
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
            return "221 Bye"

    async with smtp(HangsUp()) as port:
        await send(f"smtp://127.0.0.1:{port}")


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.mail.SEND_WITHIN_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TimeoutError):
            await send(f"smtp://127.0.0.1:{port}")


# From a request to the server -----------------------------------------------------------------------------------------


async def test_a_registration_mails_the_new_user(settings: Settings, mailbox: Mailbox) -> None:
    async with smtp(mailbox) as port:
        settings = msgspec.structs.replace(settings, smtp_url=f"smtp://127.0.0.1:{port}", jobs_in_process=True)
        async with connect_to(create_app(settings)) as client:
            assert (await register(client, "alice")).status_code == 201
            envelope, message = await mailbox.next()
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@localhost", ["alice@example.org"])
    assert "alice" in message.get_content()


async def test_where_the_server_is_down_requests_go_on_and_mails_wait(settings: Settings) -> None:
    url = f"smtp://robot:hidden@127.0.0.1:{free_port()}"
    app = create_app(msgspec.structs.replace(settings, smtp_url=url, jobs_in_process=True))
    with logged("job_failed") as (logs, failed):
        async with connect_to(app) as client:
            assert (await register(client, "alice")).status_code == 201
            await asyncio.wait_for(failed.wait(), SOON_SECONDS)
    async with open_database(settings.database_url) as database:
        [job] = [job for job in await jobs_in(database) if job.attempt]
    assert (job.attempt, job.last_error, job.failed_at) == (1, "SMTPConnectError", None)
    for text in ("alice", "hidden", "robot"):
        assert text not in str(logs)


class Refuses(Mailbox):
    """A server that answers a recipient, or with `message` a message, by a code."""

    def __init__(self, code: int, *, message: bool = False) -> None:
        super().__init__()
        self.answer = f"{code} 5.1.1 <alice@example.org>: refused"
        self.message = message

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for that name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if not self.message:
            return self.answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - the same
        return self.answer


@pytest.mark.parametrize("message", [False, True], ids=["recipient", "message"])
async def test_a_mail_that_the_server_refuses_for_good_is_told_once_and_not_sent_again(
    settings: Settings, *, message: bool
) -> None:
    async with smtp(Refuses(550, message=message)) as port:
        settings = msgspec.structs.replace(settings, smtp_url=f"smtp://127.0.0.1:{port}", jobs_in_process=True)
        app = create_app(settings)
        with logged("job_done") as (logs, done):
            async with connect_to(app) as client:
                assert (await register(client, "alice")).status_code == 201
                await asyncio.wait_for(done.wait(), SOON_SECONDS)
    lines = [(line["event"], line["log_level"]) for line in logs if line["event"].startswith(("mail", "job"))]
    assert lines == [("mail_bounced", "warning"), ("job_done", "info")]
    assert "alice" not in str(logs)
    async with open_database(settings.database_url) as database:
        assert [job.kind for job in await jobs_in(database)] == ["purge"]


@pytest.mark.parametrize("message", [False, True], ids=["recipient", "message"])
async def test_a_mail_that_the_server_refuses_for_now_is_sent_again(*, message: bool) -> None:
    async with smtp(Refuses(451, message=message)) as port:
        with pytest.raises(aiosmtplib.SMTPException):
            await send(f"smtp://127.0.0.1:{port}")


async def test_a_sender_that_the_server_refuses_is_the_operators_to_mend() -> None:
    class RefusesSender(Mailbox):
        async def handle_MAIL(  # noqa: N802 - aiosmtpd looks for that name
            self, _server: SMTP, _session: Session, _envelope: Envelope, _address: str, _options: list[str]
        ) -> str:
            return "550 no such sender"

    async with smtp(RefusesSender()) as port:
        with pytest.raises(aiosmtplib.SMTPSenderRefused):
            await send(f"smtp://127.0.0.1:{port}")


async def test_an_address_that_the_server_cannot_take_is_refused_for_good(mailbox: Mailbox) -> None:
    async with smtp(mailbox) as port:
        with pytest.raises(MailRefusedError):
            await send(f"smtp://127.0.0.1:{port}", hello(to="zo\u00eb@example.org"))


# Into files -----------------------------------------------------------------------------------------------------------


async def test_without_a_server_mails_are_files_that_only_the_owner_reads(tmp_path: Path) -> None:
    settings = Settings(secret_key="x" * 32, mail_dir=str(tmp_path / "a" / "outbox"))
    message = hello(subject="Grüße", body="https://example.org/#token=abc\n")
    with capture_logs() as logs:
        await create_mailer(settings).send(message)
    assert logs == [{"event": "mail_written", "path": logs[0]["path"], "log_level": "info"}]
    assert_private(Path(logs[0]["path"]))


def assert_private(path: Path) -> None:
    """Assert that a mail's file and its folder are closed to others, and that the file can be read as text."""
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
