"""The rules of an operator's reset, the way back for people who have lost their second factors."""

from app.factors.jobs import FACTORS_RESET, FactorMails
from app.factors.repository import FactorRepository
from app.security.events import Events


class FactorReset:
    """The service that removes every second factor of an account."""

    def __init__(self, factors: FactorRepository, mails: FactorMails, events: Events) -> None:
        self.factors = factors
        self.mails = mails
        self.events = events

    async def remove_all(self, name: str) -> int | None:
        """Remove all factors of the account with a name, end its sessions, and mail the owner.

        Return the user's id; None when there is no such account.
        """
        async with self.factors.database.transaction() as transaction:
            owner = await self.factors.find_owner(transaction, name)
            if owner is None:
                return None
            await self.factors.remove_all(transaction, owner.id)
            await self.mails.enqueue_to(transaction, FACTORS_RESET, owner)
            await self.events.record(transaction, "factors_reset", None, user_id=owner.id)
        return owner.id
