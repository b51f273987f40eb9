"""The caller of a request: the user and the session to which the request's token belongs."""

from datetime import datetime

from msgspec import Struct

from app.database.sessions import Transaction
from app.errors import Unauthorized
from app.security.events import Detail, Events, Ids
from app.security.limits import Client

NO_SESSION = 0
"""The id of the session of a token that belongs to none; no session has it."""


class InvalidCredentials(Unauthorized):
    """The request has a bearer token that is malformed, forged, expired or revoked (RFC 6750, section 3.1)."""

    detail = "Could not validate credentials"

    def __init__(self) -> None:
        challenge = 'Bearer error="invalid_token", error_description="The access token is invalid, expired or revoked"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class SignedIn(Struct, frozen=True):
    """The user and the session or token of a request, as the guard's one query returns them."""

    id: int
    username: str
    email: str
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime
    session_id: int
    last_used_at: datetime
    wrote_at: datetime | None
    scope: str | None
    """The scopes of the request's token; None where it may do everything that its user may."""
    amr: str = ""
    """The methods by which the session was signed in (RFC 8176), with spaces between them."""
    authenticated_at: datetime | None = None
    """When the session's user last proved who they are."""
    client_id: str | None = None
    """The application to which the session belongs; None for a session of the user's own."""
    token_id: int | None = None
    """The API token that came, whose session is NO_SESSION; None for an access token of a session."""

    @property
    def is_person(self) -> bool:
        """False for an application that acts for itself: its id is 0, and its rights are its scopes."""
        return self.id != 0

    @property
    def is_own_session(self) -> bool:
        """True for a session of the user's own, and False for a token that was given to a program."""
        return self.token_id is None and self.client_id is None

    @property
    def affinity(self) -> int:
        """The number by which reads of one session, or of one API token, keep to one standby."""
        return self.session_id if self.token_id is None else self.token_id


class Caller(Struct, frozen=True):
    """The user, session and client of a request that changes something."""

    id: int
    session_id: int
    client: Client

    async def record(
        self, events: Events, transaction: Transaction, type_: str, *, user_id: int | None = None, **details: Detail
    ) -> None:
        """Record an event of what the caller does in a transaction, to their own account or to another."""
        await events.record_of(transaction, type_, self.client, self._ids(user_id), details)

    async def record_alone(self, events: Events, type_: str, **details: Detail) -> None:
        """Record a refusal of what the caller asked for, in a transaction of its own."""
        await events.record_alone_of(type_, self.client, self._ids(None), details)

    def _ids(self, user_id: int | None) -> Ids:
        return Ids(self.id if user_id is None else user_id, actor_id=self.id, session_id=self.session_id or None)
