"""Registration and profile over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select

from app.database.sessions import Database
from app.users.models import User
from tests.factories import PASSWORD, People, Statements, log_in, on_sqlite, register
from tests.problems import assert_problem, pointers

TAKEN = "Username or email already registered"


async def count_users(database: Database) -> int:
    """Return how many accounts there are."""
    count: int = (await database.fetch(select(func.count(User.id)), {}))[0][0]
    return count


# It works -------------------------------------------------------------------------------------------------------------


async def test_registering_answers_with_the_account(client: AsyncClient) -> None:
    """The answer has the account's address, and never the password or its hash."""
    answer = await register(client, "alice")
    assert answer.status_code == 201
    body = answer.json()
    created_at = datetime.fromisoformat(body.pop("created_at"))
    assert created_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
    assert body == {
        "id": 1,
        "username": "alice",
        "email": "alice@example.org",
        "is_active": True,
        "is_superuser": False,
        "email_verified": False,
    }
    assert answer.headers["Location"] == "/users/1"
    assert "argon2" not in answer.text


async def test_an_account_answers_its_owner_at_its_location(client: AsyncClient) -> None:
    location = (await register(client, "alice")).headers["Location"]
    token = (await log_in(client, "alice")).json()["access_token"]
    answer = await client.get(location, headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["username"] == "alice"


@pytest.mark.parametrize("username", ["a", "7", "A.b_c-9", "a" * 64])
async def test_these_usernames_are_fine(client: AsyncClient, username: str) -> None:
    """They come back as they were written."""
    answer = await register(client, username, email="a@example.org")
    assert (answer.status_code, answer.json()["username"]) == (201, username)


@pytest.mark.parametrize(
    ("email", "stored"),
    [
        ("Alice@Example.ORG", "Alice@example.org"),
        ("alice+tag@example.org", "alice+tag@example.org"),
        ("j\u00fcrgen@example.org", "j\u00fcrgen@example.org"),
        ("alice@b\u00fccher.example.org", "alice@b\u00fccher.example.org"),
    ],
)
async def test_an_address_is_stored_in_its_normal_form(client: AsyncClient, email: str, stored: str) -> None:
    """The domain is lowered, and the part before the @ is left alone."""
    assert (await register(client, "alice", email=email)).json()["email"] == stored


async def test_no_transaction_is_open_while_the_password_is_hashed(client: AsyncClient, statements: Statements) -> None:
    """One transaction, after the hash, writes the account."""
    await register(client, "alice")
    assert [word for word in statements if word in {"BEGIN", "COMMIT", "ROLLBACK"}] == ["BEGIN", "COMMIT"]


async def test_a_new_service_has_no_accounts(client: AsyncClient, database: Database) -> None:
    """There is none that an operator would have to know of and to lock."""
    assert (await client.get("/health/live")).status_code == 200
    assert await count_users(database) == 0


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "username",
    ["", " ", "a" * 65, ".a", "_a", "-a", "a b", "a@b", "a/b", "\u00e4", "a\n", "\na", "a\0", "\u0430lice", "a\u200b"],
)
async def test_these_usernames_are_refused(client: AsyncClient, username: str) -> None:
    """Letters, digits, dot, underscore and hyphen are allowed, with a letter or digit first, and no lookalikes."""
    assert pointers(await register(client, username, email="a@example.org")) == ["/username"]


@pytest.mark.parametrize(
    "email",
    [
        "alice", "alice@", "@example.org", "alice@localhost", "a b@example.org", "alice@example.org\n", "alice@-x.org",
        "a@b@example.org", "alice@example..org", "alice@[127.0.0.1]", '"a b"@example.org', "a" * 330 + "@example.org",
        "Alice <alice@example.org>", "alice@example.org\0",
    ],
)  # fmt: skip
async def test_these_addresses_are_refused(client: AsyncClient, email: str) -> None:
    """They are refused by their form alone; nobody is asked whether the domain is there."""
    assert pointers(await register(client, "alice", email=email)) == ["/email"]


@pytest.mark.parametrize("password", ["", "x" * 257, "a\0b"])
async def test_these_passwords_are_refused(client: AsyncClient, password: str) -> None:
    """A password has one to 256 characters, of which none is NUL."""
    assert pointers(await register(client, "alice", password=password)) == ["/password"]


async def test_nobody_registers_with_rights(client: AsyncClient) -> None:
    """A field that registration doesn't have is refused, not ignored."""
    body = {"username": "alice", "email": "a@example.org", "password": PASSWORD, "is_superuser": True, "id": 7}
    assert pointers(await client.post("/users/", json=body)) == ["/id", "/is_superuser"]


# Conflict -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "email"),
    [
        ("alice", "other@example.org"),
        ("ALICE", "other@example.org"),
        ("other", "alice@example.org"),
        ("other", "ALICE@EXAMPLE.ORG"),
        ("Alice", "Alice@example.org"),
    ],
)
async def test_a_name_or_address_is_taken_in_any_case(
    client: AsyncClient, database: Database, username: str, email: str
) -> None:
    """Nothing is left of the second account."""
    await register(client, "alice")
    assert_problem(await register(client, username, email=email), 400, TAKEN)
    assert await count_users(database) == 1


async def test_an_address_is_taken_in_any_case_beyond_ascii_too(client: AsyncClient) -> None:
    assert (await register(client, "alice", email="\u00e4\u00df@example.org")).status_code == 201
    assert_problem(await register(client, "bob", email="\u00c4SS@example.org"), 400, TAKEN)


async def test_of_eight_who_register_one_name_at_once_one_gets_it(client: AsyncClient, database: Database) -> None:
    """The others are told that it is taken."""
    answers = await asyncio.gather(*(register(client, "alice", email=f"a{n}@example.org") for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 7
    for answer in answers:
        if answer.status_code == 400:
            assert_problem(answer, 400, TAKEN)
    assert await count_users(database) == 1


async def test_eight_who_register_different_names_at_once_all_get_them(client: AsyncClient, database: Database) -> None:
    """On SQLite they wait for each other."""
    answers = await asyncio.gather(*(register(client, f"user{number}") for number in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == await count_users(database) == 8


# Profile --------------------------------------------------------------------------------------------------------------


async def test_the_profile_is_the_callers(alice: AsyncClient, bob: AsyncClient) -> None:
    assert (await alice.get("/users/me")).json()["username"] == "alice"
    body = (await bob.get("/users/me")).json()
    assert set(body) == {"id", "username", "email", "is_active", "is_superuser", "email_verified", "created_at"}
    assert (body["id"], body["username"], body["email"]) == (2, "bob", "bob@example.org")


@on_sqlite
async def test_the_id_of_a_deleted_user_is_never_given_out_again(people: People, client: AsyncClient) -> None:
    """SQLite does so by default, and an old token's `sub` would name the new user."""
    await people.sign_in("alice")
    bob = await people.sign_in("bob")
    assert (await bob.delete("/users/me")).status_code == 204
    assert (await register(client, "carol")).json()["id"] == 3
