"""The rules of a sign-in in two steps, as on pages: the password first, and then, on a page of its own, the code.

Between the two, a signed ticket says whose password was right, so that nobody keeps the password.
"""

import hmac
import re
from hashlib import blake2b
from time import time

from msgspec import Struct

from app.auth.repository import StoredCredentials
from app.auth.schemas import Token
from app.auth.service import AuthService
from app.auth.sign_in import WrongCredentials
from app.errors import Unauthorized
from app.security.limits import Client
from app.security.second_step import MfaRequired

TICKET_SECONDS = 5 * 60
# Numbers of 18 digits are integers of every database.
FORM = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.[0-9a-f]{64}")


class TicketRefused(Unauthorized):
    """The ticket is forged, too old, or another browser's; or the account has another password by now."""

    detail = "It took too long. Sign in again"


class WrongSignInCode(WrongCredentials):
    """The code is wrong, or was used before. The password was right, so its owner may be told."""

    detail = "The code is wrong"


class Ticket(Struct, frozen=True):
    """The text that says, for five minutes and to one browser, whose password was right."""

    value: str


class TwoStepSignIn:
    """The service that signs in by a password, and then by a code where the account has a second factor."""

    def __init__(self, auth: AuthService, secret: str) -> None:
        self.auth = auth
        self.key = blake2b(secret.encode(), person=b"sign-in tickets").digest()

    async def begin(self, name: str, password: str, client: Client, browser: str) -> Token | Ticket:
        """Open a session by a name and its password, or return the ticket by which `browser` brings the code.

        Raise TooManyRequests and WrongCredentials.
        """
        account = await self.auth.sign_in.check_password(name, password, client)
        try:
            amr = await self.auth.sign_in.check_second_step(account, None, client)
        except MfaRequired:
            return Ticket(self._ticket(account, int(time()) + TICKET_SECONDS, browser))
        return await self.auth.open_proved(account, amr, client)

    async def finish(self, ticket: str, code: str, client: Client, browser: str) -> Token:
        """Open a session by a ticket and a code.

        Raise TicketRefused, WrongSignInCode, TooManyRequests, and WrongCredentials when the account has changed since.
        """
        account = await self.holder(ticket, browser)
        try:
            amr = await self.auth.sign_in.check_second_step(account, code, client)
        except WrongCredentials:
            raise WrongSignInCode from None
        return await self.auth.open_proved(account, amr, client)

    async def holder(self, ticket: str, browser: str) -> StoredCredentials:
        """Return the account whose password was right. Raise TicketRefused."""
        found = FORM.fullmatch(ticket)
        if found is None:
            raise TicketRefused
        user_id, expires = int(found[1]), int(found[2])
        account = await self.auth.credentials.by_id(user_id) if time() < expires else None
        if account is None or not account.is_active:
            raise TicketRefused
        if not hmac.compare_digest(self._ticket(account, expires, browser), ticket):
            raise TicketRefused
        return account

    def _ticket(self, account: StoredCredentials, expires: int, browser: str) -> str:
        """Return the ticket, whose signature covers the password's hash: another password ends it."""
        covered = f"{account.id} {expires} {browser} {account.hashed_password}".encode()
        return f"{account.id}.{expires}.{blake2b(covered, key=self.key, digest_size=32).hexdigest()}"
