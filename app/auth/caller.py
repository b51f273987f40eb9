"""The caller of a request: the user and the session that its token belongs to."""

from datetime import datetime

from msgspec import Struct

from app.logs import security_event
from app.security.limits import Client


class SignedIn(Struct, frozen=True):
    """The user and the session of a request, as the guard's one query found them."""

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


class Caller(Struct, frozen=True):
    """The user who changes something, in one of their sessions, and where they call from."""

    id: int
    session_id: int
    client: Client

    def log(self, event: str, **fields: int) -> None:
        """Log a security event of the caller's; `fields` say what else it is about."""
        who = {"user_id": self.id, "session_id": self.session_id}
        security_event(event, address=self.client.address, **who, **fields)
