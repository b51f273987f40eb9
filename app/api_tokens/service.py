"""The rules of API tokens: who may have which, and how they end."""

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import structs

from app.api_tokens.repository import ApiTokenRepository, StoredToken
from app.api_tokens.schemas import ApiTokenCreate, ApiTokenCreated, ApiTokenRead
from app.auth.caller import Caller, SignedIn
from app.auth.repository import SessionRepository
from app.database.models import now
from app.database.sessions import Transaction
from app.errors import Conflict, Forbidden, InvalidField, InvalidFields, NotFound
from app.jobs.mailboxes import NOTICES, MailQueue, Quota
from app.jobs.models import Payload
from app.security.events import Events
from app.security.random_tokens import random_token
from app.users.models import address_key

PREFIX = "bat_"
MAX_TOKENS = 100
CREATED_MAIL = "api_token_created_mail"


class TokenNotFound(NotFound):
    """The caller has no such token; the client isn't told whether another user has."""

    detail = "Token not found"


class TooManyTokens(Conflict):
    """The caller has MAX_TOKENS tokens, expired ones included."""

    detail = "Too many tokens"


class NoRightToScope(Forbidden):
    """The caller lacks the right that a scope is a part of."""

    detail = "You have no right to one of these scopes"


class ApiTokenService:
    """The service that creates, lists and ends a user's API tokens."""

    def __init__(
        self,
        tokens: ApiTokenRepository,
        sessions: SessionRepository,
        mails: MailQueue,
        events: Events,
    ) -> None:
        self.tokens = tokens
        self.sessions = sessions
        self.mails = mails
        self.events = events

    async def create(
        self,
        transaction: Transaction,
        user: SignedIn,
        caller: Caller,
        data: ApiTokenCreate,
        known: Mapping[str, bool],
    ) -> ApiTokenCreated:
        """Add a token for the caller, and tell them by mail.

        `known` are the scopes that a token can have, and whether each is superusers' alone. Raise InvalidFields,
        NoRightToScope and TooManyTokens, and InvalidCredentials when the session has ended meanwhile.
        """
        check_scopes(data.scopes, known, is_superuser=user.is_superuser)
        expires_at = check_end(data.expires_at)
        await self.check_caller(transaction, caller)
        token, scope = random_token(PREFIX), " ".join(data.scopes)
        stored = await self.tokens.create(transaction, caller.id, token, data.name, scope, expires_at)
        told: Payload = {"user_id": user.id, "address": user.email, "name": data.name, "scope": scope}
        quota = Quota.of(NOTICES, address_key(user.email), user.id, confirmed=user.email_verified)
        await self.mails.enqueue(transaction, CREATED_MAIL, told, quota)
        await caller.record(self.events, transaction, "api_token_created", token_id=stored.id, scopes=data.scopes)
        return ApiTokenCreated(**structs.asdict(read(stored)), token=token)

    async def check_caller(self, transaction: Transaction, caller: Caller) -> None:
        """Make the requests of a user take turns. Raise InvalidCredentials as `lock_caller` does, and TooManyTokens."""
        await self.sessions.lock_caller(transaction, caller)
        if await self.tokens.count_of_user(transaction, caller.id) >= MAX_TOKENS:
            raise TooManyTokens

    async def all(self, user_id: int) -> list[ApiTokenRead]:
        """Return a user's tokens, the newest first."""
        return [read(token) for token in await self.tokens.of_user(user_id)]

    async def end(self, transaction: Transaction, caller: Caller, token_id: int) -> None:
        """End one token of the caller's. Raise TokenNotFound."""
        if not await self.tokens.end(transaction, token_id, caller.id):
            raise TokenNotFound
        await caller.record(self.events, transaction, "api_token_ended", token_id=token_id)


def check_scopes(scopes: list[str], known: Mapping[str, bool], *, is_superuser: bool) -> None:
    """Raise InvalidFields for scopes that no token can have, or that come twice, and NoRightToScope."""
    errors = [
        InvalidField(f"/scopes/{place}", "is repeated" if scope in known else "is no scope of a token")
        for place, scope in enumerate(scopes)
        if scope not in known or scope in scopes[:place]
    ]
    if errors:
        raise InvalidFields(*errors)
    if not is_superuser and any(known[scope] for scope in scopes):
        raise NoRightToScope


def check_end(expires_at: datetime | None) -> datetime | None:
    """Return the time at which a new token ends, in UTC. Raise InvalidFields for one that has passed."""
    try:
        end = expires_at and expires_at.astimezone(UTC)
    except OverflowError:  # The last hours of the year 9999 are in the year 10000 elsewhere.
        raise InvalidFields(InvalidField("/expires_at", "is too late")) from None
    if end and end <= now():
        raise InvalidFields(InvalidField("/expires_at", "has passed"))
    return end


def read(token: StoredToken) -> ApiTokenRead:
    """Return a token as its owner sees it."""
    return ApiTokenRead(
        id=token.id,
        name=token.name,
        scopes=token.scope.split(),
        hint=token.hint,
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
