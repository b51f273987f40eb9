"""The policy that asks for a second factor: of nobody, of superusers, or of everybody (SECOND_FACTOR)."""

from app.auth.caller import SignedIn
from app.factors.repository import FactorRepository
from app.security.second_step import SecondFactorNeeded

MFA = "mfa"
"""The method that says that a session has proved two factors (RFC 8176)."""


class Policy:
    """The policy of one application."""

    def __init__(self, asks: str, factors: FactorRepository) -> None:
        """Ask nobody for a second factor (`none`), `superusers` for superusers' rights, or `all` for nearly all."""
        self.asks = asks
        self.factors = factors

    async def check(self, user: SignedIn) -> None:
        """Raise SecondFactorNeeded unless the session has proved two factors, or the API token's owner has some.

        An application that acts for itself has none to prove: it has a secret, and a superuser has registered it.
        """
        if MFA in user.amr.split() or not user.is_person:
            return
        if user.token_id is None or not await self.factors.has_any(user.id):
            raise SecondFactorNeeded

    async def check_change(self, user: SignedIn) -> None:
        """Raise SecondFactorNeeded where the password alone would change the factors of somebody who needs one.

        Else whoever knows the password of such an account could add a factor of their own.
        """
        if self.misses(user) and await self.factors.has_any(user.id):
            raise SecondFactorNeeded

    def misses(self, user: SignedIn) -> bool:
        """Return whether the policy asks somebody for a second factor that their session hasn't proved."""
        applies = self.asks == "all" or (self.asks == "superusers" and user.is_superuser)
        return applies and MFA not in user.amr.split()
