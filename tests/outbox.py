"""The mails that an application has sent."""

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from litestar import Litestar

from app.http.feature import combine
from app.jobs.worker import Worker
from app.main import FEATURES
from app.settings import Settings
from tests.factories import parts_of


async def deliver(app: Litestar, settings: Settings) -> list[EmailMessage]:
    """Run the jobs that are due; take and return the mails that they wrote, oldest first."""
    await run_jobs(app)
    return take_all(Path(settings.mail_dir))


async def run_jobs(app: Litestar) -> int:
    """Run the features' jobs that are due, and return how many there were."""
    parts = parts_of(app)
    handlers = combine([feature(parts) for feature in FEATURES]).jobs
    return await Worker(parts.jobs, handlers).run_due()


def take_all(folder: Path) -> list[EmailMessage]:
    """Take the mails out of a folder, and return them, oldest first."""
    return [take(path) for path in sorted(folder.glob("*.eml"))]


def take(path: Path) -> EmailMessage:
    """Return a mail, and delete its file."""
    message = message_from_bytes(path.read_bytes(), policy=default)
    path.unlink()
    return message


def token_in(message: EmailMessage) -> str:
    """Return the token in a mail's link."""
    found = re.search(r"^http://127\.0\.0\.1:8000/\S+#token=(\S+)", message.get_content(), re.MULTILINE)
    assert found, message.get_content()
    return found[1]
