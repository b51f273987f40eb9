"""The password policy: a minimum length everywhere, and in production nothing that is guessed first."""

import msgspec
import pytest

from app.errors import InvalidField, InvalidFields
from app.main import create_app
from app.security.password_policy import MAX_ESTIMATED_CHARACTERS, MIN_GUESSES, PasswordPolicy
from app.settings import Settings
from tests.factories import PASSWORD, connect_to, on_sqlite, register

SECRET = "k7Zq-2b7e151628aed2a6abf7158809cf4f3c"
COMMON = InvalidField("/password", "is too common or too easy to guess")
OWN_NAME = InvalidField("/password", "must not contain your username or e-mail address")


@pytest.fixture(scope="session")
def strict() -> PasswordPolicy:
    """The policy of production."""
    return PasswordPolicy(Settings(secret_key=SECRET, environment="production"))


def refusal(
    policy: PasswordPolicy, password: str, *, username: str = "alice", email: str = "alice@example.org"
) -> InvalidField | None:
    """Return why a password is refused; None when it is accepted."""
    try:
        policy.check(password, username=username, email=email, pointer="/password")
    except InvalidFields as error:
        [field] = error.errors
        return field
    return None


@pytest.mark.parametrize("password", ["x", "alice", "password"])
def test_in_development_every_password_is_accepted(password: str) -> None:
    assert refusal(PasswordPolicy(Settings(secret_key=SECRET)), password) is None


def test_the_minimum_length_is_a_setting() -> None:
    policy = PasswordPolicy(Settings(secret_key=SECRET, password_min_length=8))
    assert refusal(policy, "seven77") == InvalidField("/password", "must have at least 8 characters")
    assert refusal(policy, "eight888") is None


def test_in_production_the_minimum_is_12_unless_set(strict: PasswordPolicy) -> None:
    assert refusal(strict, "kX9#mQ2$vL5") == InvalidField("/password", "must have at least 12 characters")
    assert refusal(strict, "kX9#mQ2$vL5@") is None
    shorter = Settings(secret_key=SECRET, environment="production", password_min_length=8)
    assert refusal(PasswordPolicy(shorter), "kX9#mQ2$") is None


def test_characters_are_counted_as_they_are_hashed(strict: PasswordPolicy) -> None:
    decomposed = "u\u0308" * 11  # eleven letters, each written as two code points
    assert refusal(strict, decomposed) == InvalidField("/password", "must have at least 12 characters")


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password1234!",
        "P@ssw0rd!P@ssw0rd!",
        "123456789012",
        "1q2w3e4r5t6y",
        "qwertyuiop123",
        "letmeinletmein",
        "administrator",
        "aaaaaaaaaaaaaaaa",
        "abcdefghijklmnop",
        "password" * 32,
    ],
)
def test_in_production_a_common_password_is_refused(strict: PasswordPolicy, password: str) -> None:
    assert refusal(strict, password) == COMMON


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "a perfectly fine password",
        "nur ein Satz mit Leerzeichen",
        "Tr0ub4dor&3xyz",
        "π" * 3 + "ωμέγα και άλφα",
    ],
)
def test_in_production_a_good_password_is_accepted(strict: PasswordPolicy, password: str) -> None:
    assert refusal(strict, password) is None


@pytest.mark.parametrize(
    ("password", "username", "email"),
    [
        ("correct alice battery", "alice", "someone@example.org"),
        ("correct ALICE battery", "Alice", "someone@example.org"),
        ("correct wonder battery", "alice", "Wonder@example.org"),
        ("correct wonder battery", "alice", "wonder+shop@example.org"),
        ("correct straße battery", "alice", "STRASSE@example.org"),
        ("correct battery \uff41\uff4c\uff49\uff43\uff45", "alice", "someone@example.org"),  # full-width letters
    ],
)
def test_in_production_the_users_own_name_is_refused(
    strict: PasswordPolicy, password: str, username: str, email: str
) -> None:
    assert refusal(strict, password, username=username, email=email) == OWN_NAME


def test_names_that_are_in_too_many_passwords_do_not_count(strict: PasswordPolicy) -> None:
    assert refusal(strict, "correct horse battery", username="ors", email="bat@example.org") is None


def test_the_error_points_to_the_field_that_held_the_password(strict: PasswordPolicy) -> None:
    with pytest.raises(InvalidFields) as error:
        strict.check("short", username="alice", email="alice@example.org", pointer="/new_password")
    assert error.value.errors[0].pointer == "/new_password"


@pytest.mark.parametrize("password", ["@4310$7!|+" * 25, "x9" * 128, "Zq7$" * 64])
def test_no_more_of_a_password_is_estimated_than_takes_a_few_milliseconds(
    monkeypatch: pytest.MonkeyPatch, strict: PasswordPolicy, password: str
) -> None:
    estimated: list[str] = []

    def estimate(text: str) -> int:
        estimated.append(text)
        return MIN_GUESSES

    monkeypatch.setattr(strict, "estimate_guesses", estimate)
    assert refusal(strict, password) is None
    assert [len(text) for text in estimated] == [MAX_ESTIMATED_CHARACTERS]


@on_sqlite
async def test_in_production_registration_keeps_the_policy(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, secret_key=SECRET, environment="production")
    async with connect_to(create_app(settings)) as client:
        assert (await register(client, "alice")).status_code == 201
        for password, reason in [
            ("short", "must have at least 12 characters"),
            ("password1234", COMMON.detail),
            ("correct bob9 battery", OWN_NAME.detail),
        ]:
            answer = await register(client, "bob9", password=password)
            assert answer.status_code == 422
            assert answer.json()["errors"] == [{"pointer": "/password", "detail": reason}]
