"""Undoing a change of the address, by the mail to the address before."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from email.message import EmailMessage

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update

from app.database.models import now
from app.main import create_app
from app.security.tokens import ADDRESS_UNDO, RESET, Tokens
from app.settings import Settings
from app.users.models import FormerAddress, User
from app.users.repository import FormerAddressRepository
from tests.auth.oauth import execute, fetch
from tests.factories import PASSWORD, People, add_user, connect_to, log_in, parts_of, register, token_of
from tests.outbox import deliver, token_in
from tests.problems import assert_problem, pointers
from tests.users.undo import undo_token

ALICE, THIEF = "alice@example.org", "thief@example.org"
CHANGED = "Your e-mail address was changed"
SPENT = "The token is invalid, expired or used"
TAKEN = "Username or email already registered"
STATE = select(User.email, User.email_verified).order_by(User.id)


@pytest.fixture
async def alice(people: People) -> AsyncClient:
    """A client that is signed in as alice, whose address is confirmed."""
    return await people.sign_in("alice", email_verified=True)


async def change(client: AsyncClient, *addresses: str, password: str = PASSWORD) -> None:
    """Give the caller's account these addresses, one after the other."""
    for email in addresses:
        answer = await client.patch("/users/me", json={"email": email, "current_password": password})
        assert answer.status_code == 200, answer.text


async def confirm(client: AsyncClient, token: str) -> Response:
    """Undo a change by a token and return the answer."""
    return await client.post("/email-undo/confirm", json={"token": token})


def mail_to(mails: Sequence[EmailMessage], address: str, subject: str = CHANGED) -> EmailMessage:
    """Return the first mail to an address with a subject."""
    return next(mail for mail in mails if (mail["To"], mail["Subject"]) == (address, subject))


async def test_the_old_mailbox_gets_back_what_somebody_with_the_password_took(
    app: Litestar, alice: AsyncClient, client: AsyncClient, settings: Settings
) -> None:
    """Nobody is signed in afterwards, no password works, and the mail for a new one goes to the old mailbox."""
    await change(alice, THIEF)
    thiefs = {"current_password": PASSWORD, "new_password": "the thief's own"}
    assert (await alice.put("/users/me/password", json=thiefs)).status_code == 204
    token = token_in(mail_to(await deliver(app, settings), ALICE))
    answer = await confirm(client, token)
    assert (answer.status_code, answer.content) == (204, b"")
    assert [tuple(row) for row in await fetch(app, STATE)] == [(ALICE, True)]
    assert (await alice.get("/users/me")).status_code == 401
    for password in (PASSWORD, "the thief's own"):
        assert (await log_in(client, "alice", password=password)).status_code == 401
    mails = await deliver(app, settings)
    assert "changed back" in mail_to(mails, THIEF, "Your e-mail address was changed back").get_content()
    body = {"token": token_in(mail_to(mails, ALICE, "Set a new password")), "new_password": "alice's new one"}
    assert (await client.post("/password-reset/confirm", json=body)).status_code == 204
    assert (await log_in(client, ALICE, password="alice's new one")).status_code == 200


@pytest.mark.parametrize("further", [["second@example.org"], [ALICE, "second@example.org"], [ALICE]])
async def test_further_changes_do_not_take_the_way_back_away(
    app: Litestar, alice: AsyncClient, client: AsyncClient, settings: Settings, further: list[str]
) -> None:
    """The links of what was changed later end with the undo, also where the thief had confirmed an address."""
    await change(alice, THIEF)
    token = token_in(mail_to(await deliver(app, settings), ALICE))
    await execute(app, update(User).values(email_verified=True))
    await change(alice, *further)
    later = token_in(mail_to(await deliver(app, settings), THIEF))
    assert (await confirm(client, token)).status_code == 204
    assert [tuple(row) for row in await fetch(app, STATE)] == [(ALICE, True)]
    assert_problem(await confirm(client, later), 400, SPENT)
    assert_problem(await confirm(client, token), 400, SPENT)


async def test_an_earlier_link_outlives_the_undo_by_a_later_one(
    app: Litestar, alice: AsyncClient, client: AsyncClient, settings: Settings
) -> None:
    """The thief, who has confirmed an address, undoes the change away from it, and wins nothing."""
    await change(alice, THIEF)
    token = token_in(mail_to(await deliver(app, settings), ALICE))
    await execute(app, update(User).values(email_verified=True))
    await change(alice, "second@example.org")
    later = token_in(mail_to(await deliver(app, settings), THIEF))
    assert (await confirm(client, later)).status_code == 204
    assert (await confirm(client, token)).status_code == 204
    assert [tuple(row) for row in await fetch(app, STATE)] == [(ALICE, True)]


async def test_of_eight_uses_at_once_one_works(app: Litestar, client: AsyncClient) -> None:
    user = await add_user(app, "alice")
    token = await undo_token(app, user.id)
    answers = await asyncio.gather(*(confirm(client, token) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [204] + [400] * 7


async def test_an_address_that_was_never_confirmed_gets_no_link(
    people: People, app: Litestar, settings: Settings
) -> None:
    """It may be a stranger's, by a slip at registration."""
    await change(await people.sign_in("alice"), THIEF)
    assert "token" not in mail_to(await deliver(app, settings), ALICE).get_content()
    assert await fetch(app, select(FormerAddress.id)) == []


async def test_nobody_else_takes_an_address_that_can_be_put_back(
    app: Litestar, alice: AsyncClient, bob: AsyncClient, client: AsyncClient
) -> None:
    """Its own account does, and everybody once it can't be put back any more."""
    await change(alice, THIEF)
    assert_problem(await register(client, "eve", email="ALICE@example.org"), 400, TAKEN)
    body = {"email": ALICE, "current_password": PASSWORD}
    assert_problem(await bob.patch("/users/me", json=body), 400, TAKEN)
    assert [row.email for row in await fetch(app, STATE)] == [THIEF, "bob@example.org"]
    await change(alice, ALICE, THIEF)
    await execute(app, update(FormerAddress).values(expires_at=now()))
    assert (await bob.patch("/users/me", json=body)).status_code == 200


async def test_who_registers_an_address_while_it_is_left_is_refused(
    app: Litestar, people: People, client: AsyncClient
) -> None:
    """Each of six accounts leaves its address while somebody waits for it."""
    for number in range(6):
        user = await people.sign_in(f"user{number}", email_verified=True)
        _, answer = await asyncio.gather(
            change(user, f"new{number}@example.org"),
            register(client, f"eve{number}", email=f"user{number}@example.org"),
        )
        assert_problem(answer, 400, TAKEN)
    assert len(await fetch(app, select(User.id))) == 6


async def test_the_link_is_good_for_the_days_that_are_set(
    app: Litestar, alice: AsyncClient, client: AsyncClient, settings: Settings, tokens: Tokens
) -> None:
    await change(alice, THIEF)
    token = token_in(mail_to(await deliver(app, settings), ALICE))
    claims = tokens.read(ADDRESS_UNDO, token)
    assert 7 * 86400 - 60 < claims.exp - claims.iat <= 7 * 86400
    for days, kept_days in ((-1, 7), (7, -1)):
        late = await undo_token(app, claims.user_id, days=days, kept_days=kept_days)
        assert_problem(await confirm(client, late), 400, SPENT)
    await execute(app, update(FormerAddress).values(expires_at=now()))
    assert_problem(await confirm(client, token), 400, SPENT)
    assert await FormerAddressRepository(parts_of(app).database).purge() == 3


async def test_with_no_days_there_is_no_link_and_the_address_is_free(settings: Settings) -> None:
    app = create_app(replace(settings, address_undo_days=0))
    async with connect_to(app) as client:
        await change(await People(app, client).sign_in("alice", email_verified=True), THIEF)
        assert "token" not in mail_to(await deliver(app, settings), ALICE).get_content()
        assert (await register(client, "second", email=ALICE)).status_code == 201


async def test_a_token_that_nobody_here_made_is_refused(
    app: Litestar, alice: AsyncClient, client: AsyncClient, settings: Settings, tokens: Tokens
) -> None:
    """The tokens are of another kind, another user's, bound to nothing, or none at all."""
    bob = await add_user(app, "bob")
    await change(alice, THIEF)
    token = token_in(mail_to(await deliver(app, settings), ALICE))
    claims = tokens.read(ADDRESS_UNDO, token)
    lifetime = timedelta(days=1)
    for forged in (
        tokens.issue(RESET, claims.user_id, lifetime, state=claims.state),
        tokens.issue(ADDRESS_UNDO, bob.id, lifetime, state=claims.state),
        tokens.issue(ADDRESS_UNDO, claims.user_id, lifetime),
        token_of(alice),
        token[:-2],
        "",
    ):
        assert_problem(await confirm(client, forged), 400, SPENT)
    assert (await confirm(client, token)).status_code == 204


async def test_a_disabled_or_deleted_account_stays_as_it_is(app: Litestar, client: AsyncClient) -> None:
    users = [await add_user(app, name) for name in ("alice", "bob")]
    tokens = [await undo_token(app, user.id, f"{user.username}@example.net") for user in users]
    await execute(app, update(User).values(is_active=False))
    for token in tokens:
        assert_problem(await confirm(client, token), 400, SPENT)
    assert {row.email for row in await fetch(app, STATE)} == {ALICE, "bob@example.org"}


async def test_the_token_is_required_and_the_only_field(client: AsyncClient) -> None:
    for body, names in [({}, ["/token"]), ({"token": "x", "email": ALICE}, ["/email"])]:
        assert pointers(await client.post("/email-undo/confirm", json=body)) == names
