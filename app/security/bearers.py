"""Kinds of bearer tokens (RFC 6750), told apart by their first characters.

The guard reads access tokens, which are JWTs. A feature adds a further kind by a prefix of its own.
"""

from datetime import datetime
from typing import Any, Protocol

from app.database.sessions import Transaction
from app.security.limits import Client

PREFIX_LENGTH = 4
"""The number of characters of every prefix."""


class BearerReader(Protocol):
    """A reader of one kind of bearer token. Its users are those of `auth`: SignedIn."""

    def verify(self, token: str) -> Any:  # noqa: ANN401 - the reader's own
        """Return what can be told from a token without the database, for `signed_in`. Raise InvalidTokenError.

        For UnknownKeyError it is called again once the signing keys have been read.
        """

    async def signed_in(self, verified: Any) -> Any:  # noqa: ANN401 - SignedIn, which stands above this room
        """Return the user of a token; None when the token has ended, or the user is gone or disabled."""

    async def set_last_write(self, user: Any, moment: datetime) -> None:  # noqa: ANN401 - the same
        """Record that a user of such a token writes at a moment, unless a later write is recorded."""


class BearerKind(BearerReader, Protocol):
    """A kind of bearer token that a feature adds."""

    async def revoke(self, token: str, client: Client) -> None:
        """End a token (RFC 7009), if there is such a one."""

    async def end_all(self, transaction: Transaction, user_id: int) -> object:
        """End all tokens of a user, whose password is reset, or who is disabled."""
