"""The rules by which the owner of a confirmed mailbox undoes a change of the account's address.

Whoever knows the password can change the address, and would keep the owner out for good: resets go to the new address.
So the mail to the old one has a token that puts the old address back.
"""

import secrets

from app.auth.access import Access
from app.auth.credentials import RESET_MAIL
from app.database.sessions import retry_on_deadlock
from app.errors import BadRequest
from app.jobs.mailboxes import MailQueue
from app.jobs.models import Payload
from app.security.events import Events
from app.security.limits import Client
from app.security.passwords import Passwords
from app.security.tokens import ADDRESS_UNDO, Claims, InvalidTokenError, Tokens, fingerprint
from app.users.models import address_key
from app.users.repository import Former, FormerAddressRepository, UserRepository
from app.users.service import notices

ADDRESS_RESTORED_MAIL = "address_restored_mail"


class InvalidUndoToken(BadRequest):
    """The token is forged, used or too old, or an earlier change was undone, and this one with it."""

    detail = "The token is invalid, expired or used"


class UndoService:
    """The service that puts an account's former address back."""

    def __init__(
        self,
        users: UserRepository,
        former: FormerAddressRepository,
        access: Access,
        passwords: Passwords,
        tokens: Tokens,
        mails: MailQueue,
        events: Events,
    ) -> None:
        self.database = users.database
        self.users = users
        self.former = former
        self.access = access
        self.passwords = passwords
        self.tokens = tokens
        self.mails = mails
        self.events = events

    async def undo(self, token: str, client: Client) -> None:
        """Put the address back to which the token was mailed, and end every session, every token and the password.

        A mail to that address has the token for a new password. Raise InvalidUndoToken.
        """
        try:
            claims = self.tokens.read(ADDRESS_UNDO, token)
            await self._undo(claims, client)
        except (InvalidTokenError, InvalidUndoToken):
            await self.events.record_alone("address_undo_failed", client)
            raise InvalidUndoToken from None

    @retry_on_deadlock
    async def _undo(self, claims: Claims, client: Client) -> None:
        nobodys = await self.passwords.hash(secrets.token_urlsafe())
        async with self.database.transaction() as transaction:
            user = await self.users.find_to_change(transaction, claims.user_id)
            kept = await self.former.of_user(claims.user_id, transaction)
            chosen = next((former for former in kept if undo_state(former) == claims.state), None)
            if user is None or not user.is_active or chosen is None:
                raise InvalidUndoToken
            told: Payload = {"user_id": user.id, "address": user.email}
            quota = notices(user)
            await self.former.forget(transaction, user.id, since=chosen.id)
            user.email, user.email_key, user.email_verified = chosen.email, address_key(chosen.email), True
            user.email_version += 1
            user.hashed_password = nobodys
            await self.users.save(transaction)
            await self.access.end(transaction, user.id)
            await self.mails.enqueue(transaction, ADDRESS_RESTORED_MAIL, told, quota)
            await self.mails.jobs.enqueue(transaction, RESET_MAIL, {"email": chosen.email})
            await self.events.record(transaction, "address_restored", client, user_id=user.id, actor_id=user.id)


def undo_state(former: Former) -> str:
    """Return what a token is bound to: one change of an address, and the very address that was left."""
    return fingerprint(f"{former.id} {former.email}")
