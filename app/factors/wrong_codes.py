"""The limit on wrong codes: by account, from all networks together, since whoever guesses knows the password."""

from app.errors import TooManyRequests
from app.factors.jobs import WRONG_CODES_MAIL, FactorMails
from app.security.limits import WRONG_CODE_MAILS, WRONG_CODES, Limits, account_of_id


class WrongCodes:
    """Counts wrong codes, wherever they are asked for, and tells the owner when there were too many."""

    def __init__(self, limits: Limits, mails: FactorMails) -> None:
        self.limits = limits
        self.mails = mails

    async def check(self, user_id: int) -> None:
        """Raise TooManyRequests when the limit is used up, for a right code too."""
        await self.limits.check(WRONG_CODES, account_of_id(user_id))

    async def count(self, user_id: int) -> None:
        """Count a wrong code, atomically; the last one that the limit allows is told to the owner by mail.

        Raise TooManyRequests, and count nothing, when the limit is used up.
        """
        await self.limits.hit(WRONG_CODES, account_of_id(user_id))
        try:
            await self.check(user_id)
        except TooManyRequests:
            await self.tell(user_id)

    async def tell(self, user_id: int) -> None:
        """Mail the owner, at most once in a quarter of an hour."""
        try:
            await self.limits.hit(WRONG_CODE_MAILS, account_of_id(user_id))
        except TooManyRequests:
            return
        async with self.mails.factors.database.transaction() as transaction:
            await self.mails.enqueue(transaction, WRONG_CODES_MAIL, user_id)
