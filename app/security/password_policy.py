"""The password policy: the rules that a new password must keep."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from app.errors import InvalidField, InvalidFields
from app.security.passwords import normalise
from app.settings import Settings

if TYPE_CHECKING:
    from app.security.breaches import Breaches

# Many good passwords contain a shorter name by chance.
MIN_NAME_LENGTH = 4
# A password that an attacker finds with fewer guesses is among the most common ones, or built like them.
MIN_GUESSES = 10**6
# The estimator takes a millisecond for a usual password, but in the worst case 15 ms for 20 characters and 80 for 32.
MAX_ESTIMATED_CHARACTERS = 20
# It tries every way to read digits and signs as letters. A mixture of signs multiplies the ways.
MAX_READINGS = 8


class PasswordPolicy:
    """The one policy for registration, change, reset and an operator's command (NIST SP 800-63B, section 3.1.1.2)."""

    def __init__(self, settings: Settings) -> None:
        """Load the estimator in production, so that no request has to: it takes 8 MB and 40 ms."""
        self.min_length = settings.effective_password_min_length
        self.estimate_guesses = load_estimator() if settings.production else None
        self.breaches = load_breaches(settings.breached_passwords_url) if settings.breached_passwords_url else None

    def check(self, password: str, *, username: str, email: str, pointer: str) -> None:
        """Raise InvalidFields, at `pointer`, for a password that is too short, or in production too easy to guess.

        It takes some 15 ms in the worst case that was found, so it doesn't belong in the event loop.
        """
        if reason := self.reason_against(password, username, email):
            raise InvalidFields(InvalidField(pointer, reason))

    async def check_breaches(self, password: str, *, pointer: str) -> None:
        """Raise InvalidFields, at `pointer`, for a password that is known from a breach, as far as a service is set."""
        if self.breaches and await self.breaches.contain(password):
            raise InvalidFields(InvalidField(pointer, "is known from a data breach"))

    def reason_against(self, password: str, username: str, email: str) -> str | None:
        """Return the reason to refuse a password; None when it is accepted."""
        password = normalise(password)
        if len(password) < self.min_length:
            return f"must have at least {self.min_length} characters"
        if self.estimate_guesses is None:
            return None
        folded = password.casefold()
        if any(name in folded for name in own_names(username, email)):
            return "must not contain your username or e-mail address"
        if self.estimate_guesses(password[:MAX_ESTIMATED_CHARACTERS]) < MIN_GUESSES:
            return "is too common or too easy to guess"
        return None


def own_names(username: str, email: str) -> Iterator[str]:
    """Yield the names that an attacker would try first: the username, and the e-mail's local part without its tag."""
    local_part = email.rpartition("@")[0].partition("+")[0]
    for name in (username, local_part):
        folded = normalise(name).casefold()
        if len(folded) >= MIN_NAME_LENGTH:
            yield folded


def load_breaches(url: str) -> "Breaches":
    """Return the passwords that a service at a URL knows; its client takes 50 ms to load, so no request loads it."""
    from app.security.breaches import Breaches  # noqa: PLC0415 - only where it is needed

    return Breaches(url)


def load_estimator() -> Callable[[str], float]:
    """Return zxcvbn's estimate of how many guesses find a password, by common passwords, words, dates and patterns."""
    from zxcvbn import zxcvbn  # noqa: PLC0415 - only where it is needed
    from zxcvbn.matching import L33T_TABLE  # noqa: PLC0415 - the same

    signs: dict[str, list[str]] = L33T_TABLE
    return lambda password: float(zxcvbn(plain_signs(password, signs))["guesses"])


def plain_signs(password: str, signs: Mapping[str, Sequence[str]]) -> str:
    """Return a password whose signs can be read as letters in few ways.

    `signs` has those that stand for each letter. Where their mixture could be read in more than MAX_READINGS ways,
    each sign is replaced by the first one for its letter: it hides the same words, and the estimator is sooner done.
    """
    used = [[sign for sign in alike if sign in password] for alike in signs.values()]
    if prod(len(alike) for alike in used if alike) <= MAX_READINGS:
        return password
    plain = {sign: alike[0] for alike in reversed(list(signs.values())) for sign in alike}
    return "".join(plain.get(character, character) for character in password)
