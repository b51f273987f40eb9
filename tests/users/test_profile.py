"""Changing and deleting one's own account."""

import asyncio
from collections import Counter

from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.items.models import Item
from app.jobs.models import Job
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import bearer, execute, fetch, new_user, refresh, status_of
from tests.factories import PASSWORD, People, Statements, add_user, create_item, log_in
from tests.outbox import deliver
from tests.problems import assert_problem, pointers

TAKEN = "Username or email already registered"
WRONG = "The current password is wrong"
NEW_ADDRESS = {"email": "new@example.org", "current_password": PASSWORD}


async def test_absent_fields_keep_their_value(alice: AsyncClient) -> None:
    before = (await alice.get("/users/me")).json()
    for body in ({}, {"username": "alicia"}, {"email": "alicia@example.org", "current_password": PASSWORD}):
        answer = await alice.patch("/users/me", json=body)
        assert answer.status_code == 200
        changed = {name: value for name, value in body.items() if name != "current_password"}
        before |= changed
        assert answer.json() == before
        assert (await alice.get("/users/me")).json() == before


async def test_the_new_name_logs_in_and_the_old_one_is_free(
    people: People, alice: AsyncClient, client: AsyncClient
) -> None:
    """The access token goes on, since it names the account by its id."""
    assert (await alice.patch("/users/me", json={"username": "Alicia"})).status_code == 200
    assert (await alice.get("/users/me")).json()["username"] == "Alicia"
    assert (await log_in(client, "alicia")).status_code == 200
    assert (await log_in(client, "alice")).status_code == 401
    await add_user(people.app, "alice", email="second@example.org", email_key="second@example.org")


async def test_a_name_or_address_that_is_taken_in_any_case_is_refused(people: People, alice: AsyncClient) -> None:
    """The answer has the registration's words, and nothing is changed."""
    await add_user(people.app, "bob")
    before = (await alice.get("/users/me")).json()
    for username in ("bob", "BOB"):
        assert_problem(await alice.patch("/users/me", json={"username": username}), 400, TAKEN)
    for email in ("bob@example.org", "BOB@Example.ORG"):
        body = {"email": email, "username": "alicia", "current_password": PASSWORD}
        assert_problem(await alice.patch("/users/me", json=body), 400, TAKEN)
    assert (await alice.get("/users/me")).json() == before
    assert await fetch(people.app, select(Job.id)) == []


async def test_ones_own_name_in_another_case_is_free(alice: AsyncClient) -> None:
    answer = await alice.patch("/users/me", json={"username": "ALICE"})
    assert answer.json()["username"] == "ALICE"
    body = {"email": "Alice@example.org", "current_password": PASSWORD}
    answer = await alice.patch("/users/me", json=body)
    assert answer.json()["email"] == "Alice@example.org"


async def test_of_two_who_take_one_name_at_once_one_gets_it(people: People) -> None:
    """The other is refused, and nothing fails."""
    both = [await people.sign_in("alice"), await people.sign_in("bob")]
    answers = await asyncio.gather(*(one.patch("/users/me", json={"username": "carol"}) for one in both))
    assert sorted(answer.status_code for answer in answers) == [200, 400]


async def test_the_same_address_is_no_change(people: People, app: Litestar, settings: Settings) -> None:
    """It needs no password, stays verified, and nobody is told."""
    alice = await people.sign_in("alice", email_verified=True)
    answer = await alice.patch("/users/me", json={"email": "alice@example.org"})
    assert answer.status_code == 200
    assert answer.json()["email_verified"] is True
    assert await deliver(app, settings) == []


async def test_a_new_address_is_unverified_and_both_are_told(people: People, app: Litestar, settings: Settings) -> None:
    """The old address hears of the new one, and the new one is asked to confirm itself."""
    alice = await people.sign_in("alice", email_verified=True)
    answer = await alice.patch("/users/me", json=NEW_ADDRESS)
    assert answer.status_code == 200
    assert answer.json()["email"] == "new@example.org"
    assert answer.json()["email_verified"] is False
    mails = {mail["To"]: mail.get_content() for mail in await deliver(app, settings)}
    assert mails.keys() == {"alice@example.org", "new@example.org"}
    assert "is now new@example.org" in mails["alice@example.org"]
    assert "/account/verify-email#token=" in mails["new@example.org"]
    assert "/account/undo-email#token=" in mails["alice@example.org"]


async def test_a_new_address_logs_in_and_the_old_one_does_not(alice: AsyncClient, client: AsyncClient) -> None:
    """It does so at once, before it is verified."""
    await alice.patch("/users/me", json=NEW_ADDRESS)
    assert (await log_in(client, "NEW@example.org")).status_code == 200
    assert (await log_in(client, "alice@example.org")).status_code == 401


async def test_a_new_address_needs_the_current_password(alice: AsyncClient, app: Litestar) -> None:
    """A stranger who finds an open session can't take the account over, and nothing else in the request is done."""
    for password in ({}, {"current_password": ""}, {"current_password": "wrong"}):
        body = {"email": "new@example.org", "username": "alicia", **password}
        assert_problem(await alice.patch("/users/me", json=body), 403, WRONG)
    me = (await alice.get("/users/me")).json()
    assert (me["username"], me["email"]) == ("alice", "alice@example.org")
    assert await fetch(app, select(Job.id)) == []


async def test_a_wrong_password_for_a_new_address_counts_as_a_failed_login(
    alice: AsyncClient, client: AsyncClient
) -> None:
    """After ten, the right one is refused too."""
    for _ in range(10):
        body = {"email": "new@example.org", "current_password": "wrong"}
        assert (await alice.patch("/users/me", json=body)).status_code == 403
    assert_problem(await alice.patch("/users/me", json=NEW_ADDRESS), 429)
    assert (await log_in(client, "alice")).status_code == 429
    assert (await alice.patch("/users/me", json={"username": "alicia"})).status_code == 200


async def test_a_missing_password_for_a_new_address_is_no_guess(alice: AsyncClient, hashes: Counter[str]) -> None:
    """It costs no hash and counts as no failed login, so that it locks nobody out."""
    hashes.clear()
    for body in [{}, {"current_password": ""}] * 6:
        assert_problem(await alice.patch("/users/me", json={"email": "new@example.org", **body}), 403, WRONG)
    assert not hashes
    assert (await alice.patch("/users/me", json=NEW_ADDRESS)).status_code == 200


async def test_wrong_fields_are_named(alice: AsyncClient) -> None:
    """Nobody may change some fields, and others have values that registration wouldn't take."""
    for body, names in [
        ({"is_superuser": True}, ["/is_superuser"]),
        ({"is_active": False, "id": 5}, ["/id", "/is_active"]),
        ({"email_verified": True}, ["/email_verified"]),
        ({"password": "new"}, ["/password"]),
        ({"username": None}, ["/username"]),
        ({"username": "a b", "email": 1}, ["/email", "/username"]),
        ({"username": "al@ice"}, ["/username"]),
        ({"username": ""}, ["/username"]),
        ({"email": "no-address"}, ["/email"]),
        ({"email": "a\0@example.org"}, ["/email"]),
        ({"current_password": 5}, ["/current_password"]),
    ]:
        assert pointers(await alice.patch("/users/me", json=body)) == names, body


async def test_changing_a_name_hashes_nothing_and_is_one_transaction(
    alice: AsyncClient, statements: Statements
) -> None:
    """The guard's query comes before the transaction."""
    statements.clear()
    await alice.patch("/users/me", json={"username": "alicia"})
    assert [statement.split()[0] for statement in statements] == ["SELECT", "BEGIN", "SELECT", "UPDATE", "COMMIT"]


async def test_deleting_an_account_takes_all_that_belongs_to_it(app: Litestar, client: AsyncClient) -> None:
    """Its items and all its sessions go, and nobody else's."""
    alice, bob = await new_user(app, "alice"), await new_user(app, "bob")
    for pair in (alice, bob):
        client.headers["Authorization"] = bearer(pair)["Authorization"]
        assert (await create_item(client)).status_code == 201
    del client.headers["Authorization"]
    second = (await log_in(client, "alice")).json()
    answer = await client.delete("/users/me", headers=bearer(alice))
    assert answer.status_code == 204
    assert answer.content == b""
    assert [await status_of(client, pair) for pair in (alice, second, bob)] == [401, 401, 200]
    assert (await refresh(client, second)).json()["error"] == "invalid_grant"
    assert (await log_in(client, "alice")).status_code == 401
    (owner,) = await fetch(app, select(User.id))
    assert await fetch(app, select(Item.owner_id)) == [owner]
    assert await fetch(app, select(LoginSession.user_id)) == [owner]


async def test_a_deleted_name_may_be_registered_by_somebody_else(app: Litestar, client: AsyncClient) -> None:
    """The new account is another one, so the old tokens are worth nothing."""
    alice = await new_user(app)
    await client.delete("/users/me", headers=bearer(alice))
    body = {"username": "alice", "email": "alice@example.org", "password": "another"}
    answer = await client.post("/users/", json=body)
    assert answer.status_code == 201
    assert await status_of(client, alice) == 401


async def test_mails_about_a_deleted_account_are_not_sent(
    alice: AsyncClient, app: Litestar, settings: Settings
) -> None:
    """There is nobody left to tell, and the jobs are done."""
    await alice.patch("/users/me", json=NEW_ADDRESS)
    await alice.delete("/users/me")
    assert await deliver(app, settings) == []
    assert await fetch(app, select(Job.id)) == []


async def test_the_last_superuser_cannot_leave(root: AsyncClient, app: Litestar) -> None:
    """Another account must have the rights first, and a disabled one doesn't count."""
    await add_user(app, "sleeper", is_superuser=True, is_active=False)
    answer = await root.delete("/users/me")
    assert_problem(answer, 409, "The last superuser can't be disabled, demoted or deleted")
    await execute(app, update(User).values(is_active=True))
    assert (await root.delete("/users/me")).status_code == 204
