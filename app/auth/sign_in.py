"""The rules of a sign-in by password: the password, and the second step of accounts that have one."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import structs

from app.auth.repository import CredentialRepository, StoredCredentials
from app.errors import OAuthError, TooManyRequests
from app.security.events import NONE, Events, Ids
from app.security.limits import Client, Limits, account_of_id, account_of_name
from app.security.passwords import Passwords
from app.security.second_step import SecondStep, WrongCode
from app.users.models import login_key


class WrongCredentials(OAuthError):
    """The name is unknown, the password wrong, or the user disabled; the client isn't told which."""

    status = 401
    error = "invalid_grant"
    detail = "Incorrect username or password"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class SignInProof(NamedTuple):
    """An account whose owner has proved who they are, and by which methods (RFC 8176)."""

    account: StoredCredentials
    amr: str


class PasswordSignIn:
    """The service that checks what somebody signs in with; it opens no session."""

    def __init__(
        self,
        credentials: CredentialRepository,
        passwords: Passwords,
        limits: Limits,
        events: Events,
        second_steps: Iterable[SecondStep],
    ) -> None:
        self.credentials = credentials
        self.passwords = passwords
        self.limits = limits
        self.events = events
        self.second_steps = second_steps

    async def check(self, name: str, password: str, otp: str | None, client: Client) -> SignInProof:
        """Return the account that a name, its password and, with a second factor, a code belong to.

        Raise TooManyRequests, WrongCredentials, which takes one hash for unknown names too, and MfaRequired.
        """
        account = await self.check_password(name, password, client)
        return SignInProof(account, await self.check_second_step(account, otp, client))

    async def check_password(self, name: str, password: str, client: Client) -> StoredCredentials:
        """Return the account that a name and its password belong to. Raise TooManyRequests and WrongCredentials."""
        account = await self.credentials.by_name(name)

        async def verify() -> bool:
            matches = await self.passwords.verify(account.hashed_password if account else None, password)
            return matches and account is not None and account.is_active

        # Logins to one account count together, whether by its username or its e-mail address. A name that nobody has
        # counts apart from every account, even if it looks like an id.
        account_key = account_of_id(account.id) if account else account_of_name(login_key(name))
        try:
            matches = await self.limits.verify_within_limits(verify, account=account_key, network=client.network)
        except TooManyRequests:
            await self.events.record_alone("login_limited", client, user_id=account.id if account else None)
            raise
        if not matches or account is None:
            raise await self.refuse(account.id if account else None, client)
        if self.passwords.is_outdated(account.hashed_password):
            return structs.replace(account, hashed_password=await self.rehash(account, password, client))
        return account

    async def check_second_step(self, account: StoredCredentials, otp: str | None, client: Client) -> str:
        """Return the methods by which a user signs in whose password was right (RFC 8176).

        Raise MfaRequired, WrongCredentials for a wrong code, and TooManyRequests.
        """
        amr = "pwd"
        try:
            for step in self.second_steps if account.second_factor else ():
                amr = await step(account.id, otp, client)
        except WrongCode:
            raise await self.refuse(account.id, client, factor="otp") from None
        except TooManyRequests:
            await self.events.record_alone("login_limited", client, user_id=account.id)
            raise
        return amr

    async def refuse(self, user_id: int | None, client: Client, *, factor: str = "") -> WrongCredentials:
        """Record a refusal, because of a `factor` other than the password where one is given, and return the error."""
        details = {"factor": factor} if factor else NONE
        await self.events.record_alone_of("login_failed", client, Ids(user_id), details)
        return WrongCredentials()

    async def rehash(self, account: StoredCredentials, password: str, client: Client) -> str:
        """Store the password's hash with today's parameters, and return it; or the one that another login has stored.

        Raise WrongCredentials when the password has been changed meanwhile.
        """
        hashed = await self.passwords.hash(password)
        if await self.credentials.replace_hash(account.id, account.hashed_password, hashed):
            return hashed
        current = await self.credentials.by_id(account.id)
        if current is None or not await self.passwords.verify(current.hashed_password, password):
            raise await self.refuse(account.id, client)
        return current.hashed_password
