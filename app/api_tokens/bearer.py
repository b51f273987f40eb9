"""API tokens as a kind of bearer token: the guard reads them, and `POST /revoke` ends them."""

from datetime import datetime

from app.api_tokens.repository import ApiTokenRepository
from app.api_tokens.service import PREFIX
from app.auth.access_tokens import MINUTE, record_use
from app.auth.caller import SignedIn
from app.database.models import now
from app.database.sessions import Transaction
from app.security.events import Events
from app.security.limits import Client
from app.security.random_tokens import digest, is_intact
from app.security.tokens import InvalidTokenError


class ApiTokenReader:
    """The reader of API tokens."""

    def __init__(self, tokens: ApiTokenRepository, events: Events) -> None:
        self.tokens = tokens
        self.events = events

    def verify(self, token: str) -> bytes:
        """Return the digest by which the database knows a token. Raise InvalidTokenError for a wrong checksum."""
        if not is_intact(token, PREFIX):
            raise InvalidTokenError
        return digest(token)

    async def signed_in(self, token_digest: bytes) -> SignedIn | None:
        """Return the user of a token; None when it has ended, or the user is gone or disabled."""
        moment = now()
        user = await self.tokens.signed_in(token_digest, moment)
        if user and user.token_id and user.last_used_at <= moment - MINUTE:
            await record_use(self.tokens.touch(user.token_id, moment, before=moment - MINUTE))
        return user

    async def set_last_write(self, user: SignedIn, moment: datetime) -> None:
        """Record that a token writes at a moment, unless a later write is recorded."""
        if user.token_id:
            await self.tokens.set_last_write(user.token_id, moment)

    async def revoke(self, token: str, client: Client) -> None:
        """End a token, whoever has found it; ignore other texts."""
        if not is_intact(token, PREFIX):
            return
        async with self.tokens.database.transaction() as transaction:
            ended = await self.tokens.end_by_digest(transaction, digest(token))
            if ended:
                await self.events.record(
                    transaction, "api_token_revoked", client, user_id=ended.user_id, token_id=ended.id
                )

    async def end_all(self, transaction: Transaction, user_id: int) -> None:
        """End every token of a user."""
        await self.tokens.end_all(transaction, user_id)
