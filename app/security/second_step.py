"""The second step of a sign-in: a code, after the password was right."""

from collections.abc import Awaitable, Callable

from app.errors import Forbidden, OAuthError
from app.security.limits import Client

SecondStep = Callable[[int, str | None, Client], Awaitable[str]]
"""Checks the code of a user, by id, and returns the methods that are then proved (RFC 8176), the password among them.

It is called only for accounts with a second factor, after their password was right. It raises MfaRequired for no code,
WrongCode, and TooManyRequests.
"""


class MfaRequired(OAuthError):
    """The password is right, and the account has a second factor, whose code is missing."""

    status = 403
    error = "mfa_required"
    detail = "A code of the second factor is needed"


class WrongCode(Forbidden):
    """The code is wrong, or was used before."""

    detail = "The code is wrong"


class SecondFactorNeeded(Forbidden):
    """The policy asks for a session that was signed in with a second factor (SECOND_FACTOR)."""

    detail = "A second factor is needed"
