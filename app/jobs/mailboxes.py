"""The limit on mails: a mailbox gets at most five in an hour for one cause, whoever causes them, by whichever route.

The counts are in the database, so that all processes share them. What is over the limit isn't lost: it waits until the
limit allows it, and of all mails of one kind for one mailbox, only the last waits.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Self

from msgspec import Struct

from app.database.models import now
from app.database.sessions import Transaction
from app.jobs.models import Payload
from app.jobs.queue import JobQueue
from app.jobs.repository import MailCountRepository

MOST_MAILS = 5
WITHIN = timedelta(hours=1)
LONGEST_WAIT = timedelta(days=1)
"""Later times were counted by a clock that was ahead: they would keep a mailbox from its mails for as long."""
NOTICES = "notices"
RESETS = "resets"


class Quota(Struct, frozen=True):
    """The count that a mail belongs to, by its name, and the user whose mails of one kind can replace one another."""

    name: str
    owner_id: int

    @classmethod
    def of(cls, cause: str, address_key: str, user_id: int, *, confirmed: bool) -> Self:
        """Return the quota of mails for one cause to a user, who has `confirmed` that the address is theirs, or hasn't.

        An address that isn't confirmed may be a stranger's. All mails to it are counted together, whoever causes them,
        and so are all forms of it that usually lead to one mailbox. They use up no quota of the mailbox's owner.
        """
        if confirmed:
            return cls(f"{cause} {address_key}", user_id)
        return cls(f"unconfirmed {plain_mailbox(address_key)}", 0)


class MailQueue:
    """The queue of mails: each is a job, which is due at once, or when the limit allows it."""

    def __init__(self, jobs: JobQueue, *, secret: str) -> None:
        """Count under names that nobody can compute without the secret."""
        self.jobs = jobs
        self.counts = MailCountRepository(jobs.database)
        self.key = blake2b(secret.encode(), person=b"mail counts").digest()

    async def enqueue(self, transaction: Transaction, kind: str, payload: Payload, quota: Quota) -> None:
        """Enqueue a mail.

        One that is over the limit waits until it isn't. If one of its kind waits already, that gets its payload, and
        this one is dropped.
        """
        name = blake2b(quota.name.encode(), key=self.key, digest_size=16).digest()
        moment = now()
        first, last = (moment - WITHIN).timestamp(), (moment + LONGEST_WAIT).timestamp()
        times = [time for time in await self.counts.lock(transaction, name) if first < time <= last]
        run_at = next_time(times, moment)
        key = f"{kind}:{quota.owner_id}:{name.hex()}" if run_at > moment else None
        if key and await self.jobs.jobs.replace(transaction, key, payload):
            return
        await self.counts.store(transaction, name, [*times, run_at.timestamp()], WITHIN)
        await self.jobs.enqueue(transaction, kind, payload, run_at=run_at, key=key)


def next_time(times: Sequence[float], moment: datetime) -> datetime:
    """Return the first time from `moment` on at which MOST_MAILS within an hour aren't exceeded; `times` ascend."""
    if len(times) < MOST_MAILS:
        return moment
    return datetime.fromtimestamp(times[-MOST_MAILS], UTC) + WITHIN


def plain_mailbox(address_key: str) -> str:
    """Return an address without what many servers ignore in its local part: dots, and all after a plus sign."""
    local_part, _, domain = address_key.rpartition("@")
    return f"{local_part.partition('+')[0].replace('.', '')}@{domain}"
