"""The list of a user's second factors."""

from app.factors.passkeys.repository import PasskeyRepository
from app.factors.repository import FactorRepository
from app.factors.schemas import FactorsRead, TotpRead


class FactorList:
    """The service that lists a user's second factors."""

    def __init__(self, factors: FactorRepository, passkeys: PasskeyRepository) -> None:
        self.factors = factors
        self.passkeys = passkeys

    async def read(self, user_id: int) -> FactorsRead:
        """Return the app, when one is confirmed, the number of recovery codes, and the passkeys."""
        stored = await self.factors.find(user_id)
        confirmed_at = stored.confirmed_at if stored else None
        return FactorsRead(
            totp=TotpRead(confirmed_at) if confirmed_at else None,
            recovery_codes_left=await self.factors.count_codes(user_id),
            passkeys=await self.passkeys.of_user(user_id),
        )
