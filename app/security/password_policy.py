"""Which passwords are good enough; knows neither HTTP nor the database."""

from collections.abc import Callable, Iterator

from app.errors import InvalidField, InvalidFields
from app.security.passwords import normalise
from app.settings import Settings

# Shorter names are in too many good passwords.
SHORTEST_NAME = 4
# A password that falls within a million guesses is among the most common ones, or built like them.
COMMON_WITHIN_GUESSES = 10**6
# The estimator takes a millisecond for a usual password, but at the worst 15 for 20 characters and 80 for 32.
JUDGED_CHARACTERS = 20


class PasswordPolicy:
    """One rule for every way in: registration, change, reset and an operator's command (NIST SP 800-63B, 3.1.1.2)."""

    def __init__(self, settings: Settings) -> None:
        """In production the estimator is loaded here (8 MB, 40 ms), so that no request has to."""
        self.min_length = settings.least_password_length
        self.guesses = load_estimator() if settings.production else None

    def check(self, password: str, *, username: str, email: str, pointer: str = "/password") -> None:
        """Raises InvalidFields, at `pointer`, for a password that is too short, or in production too easy to guess."""
        password = normalise(password)
        if reason := self.reason_against(password, username, email):
            raise InvalidFields(InvalidField(pointer, reason))

    def reason_against(self, password: str, username: str, email: str) -> str | None:
        """Why the password is refused; None when it is fine."""
        if len(password) < self.min_length:
            return f"must have at least {self.min_length} characters"
        if self.guesses is None:
            return None
        folded = password.casefold()
        if any(name in folded for name in own_names(username, email)):
            return "must not contain your username or e-mail address"
        if self.guesses(password[:JUDGED_CHARACTERS]) < COMMON_WITHIN_GUESSES:
            return "is too common or too easy to guess"
        return None


def own_names(username: str, email: str) -> Iterator[str]:
    """What a stranger would try first: the username and the local part of the address, without its tag."""
    local_part = email.rpartition("@")[0].partition("+")[0]
    for name in (username, local_part):
        folded = normalise(name).casefold()
        if len(folded) >= SHORTEST_NAME:
            yield folded


def load_estimator() -> Callable[[str], float]:
    """How many guesses a password withstands, by zxcvbn, which knows common passwords, words, dates and patterns."""
    from zxcvbn import zxcvbn  # noqa: PLC0415 - only where it is needed

    return lambda password: float(zxcvbn(password)["guesses"])
