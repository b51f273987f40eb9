"""The rules of accounts, without HTTP."""

import asyncio

import pytest

from app.auth.credentials import UserNotFound
from app.errors import InvalidFields
from app.http.feature import Parts
from app.users.feature import create_user_service
from app.users.models import name_key, normalise_email
from app.users.repository import NameTaken
from app.users.schemas import UserCreate
from app.users.service import UserService
from tests.factories import PASSWORD


@pytest.fixture
def users(parts: Parts) -> UserService:
    """The service that the application's handlers have."""
    return create_user_service(parts)


async def test_a_new_account_is_active_and_has_no_rights(users: UserService) -> None:
    """Its password is stored as a hash, which verifies it."""
    user = await users.create(UserCreate("alice", "alice@example.org", PASSWORD))
    assert (user.is_active, user.is_superuser, user.email_verified) == (True, False, False)
    assert PASSWORD not in user.hashed_password
    assert await users.credentials.passwords.verify(user.hashed_password, PASSWORD)


async def test_an_operator_may_create_a_superuser(users: UserService) -> None:
    user = await users.create(UserCreate("root", "root@example.org", PASSWORD), is_superuser=True)
    assert (await users.get_user(user.id)).is_superuser


async def test_a_name_or_address_is_taken_in_any_case(users: UserService) -> None:
    await users.create(UserCreate("alice", "alice@example.org", PASSWORD))
    for username, email in [("ALICE", "b@example.org"), ("bob", "Alice@Example.org")]:
        with pytest.raises(NameTaken):
            await users.create(UserCreate(username, email, PASSWORD))


async def test_of_two_at_the_same_instant_one_gets_the_name(users: UserService) -> None:
    """The other is told that the name is taken."""
    results = await asyncio.gather(
        *(users.create(UserCreate("alice", f"a{number}@example.org", PASSWORD)) for number in range(2)),
        return_exceptions=True,
    )
    assert [isinstance(result, NameTaken) for result in results].count(True) == 1


async def test_nobody_has_an_id_that_was_never_given_out(users: UserService) -> None:
    """The error says what is missing."""
    with pytest.raises(UserNotFound):
        await users.get_user(1)


def test_names_differ_in_more_than_case() -> None:
    """Unicode's folding goes further than lower case."""
    assert name_key("Alice") == name_key("aLICE")
    assert name_key("Stra\u00dfe") == name_key("STRASSE")
    assert name_key("alice") != name_key("al\u0131ce")


def test_an_address_has_one_normal_form() -> None:
    """An address that has none is refused by name."""
    assert normalise_email("Alice@EXAMPLE.org") == "Alice@example.org"
    with pytest.raises(InvalidFields) as refusal:
        normalise_email("alice")
    assert [error.pointer for error in refusal.value.errors] == ["/email"]
