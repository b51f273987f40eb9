"""Attacks by the link that undoes a change of an address: a thief keeps one, and uses it when the owner is back."""

from collections.abc import Sequence
from email.message import EmailMessage

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select

from app.settings import Settings
from app.users.models import FormerAddress, User
from tests.auth.oauth import fetch
from tests.factories import PASSWORD, People
from tests.outbox import deliver, token_in
from tests.problems import assert_problem

OWNER, THIEF, SECOND = "alice@example.org", "thief@example.org", "second@example.org"
NEW_PASSWORD = "the owner's new password"


async def change(client: AsyncClient, email: str) -> None:
    """Give the caller's account an address, by the password."""
    answer = await client.patch("/users/me", json={"email": email, "current_password": PASSWORD})
    assert answer.status_code == 200, answer.text


async def confirm(client: AsyncClient, mails: Sequence[EmailMessage], address: str) -> None:
    """Confirm an address by the mail to it."""
    (mail,) = (mail for mail in mails if (mail["To"], mail["Subject"]) == (address, "Confirm your e-mail address"))
    answer = await client.post("/email-verification/confirm", json={"token": token_in(mail)})
    assert answer.status_code == 204, answer.text


@pytest.mark.parametrize("back", [OWNER, OWNER.title()])
async def test_a_thief_who_confirmed_an_address_cannot_put_it_back_once_the_owner_has_returned(
    people: People, app: Litestar, client: AsyncClient, settings: Settings, back: str
) -> None:
    """The owner changes the address back by the password, confirms it, and chooses a new password."""
    alice = await people.sign_in("alice", email_verified=True)
    await change(alice, THIEF)
    await confirm(client, await deliver(app, settings), THIEF)
    await change(alice, SECOND)
    (told,) = (mail for mail in await deliver(app, settings) if mail["To"] == THIEF)
    await change(alice, back)
    await confirm(client, await deliver(app, settings), back.replace("Example.Org", "example.org"))
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await alice.put("/users/me/password", json=body)).status_code == 204
    assert_problem(await client.post("/email-undo/confirm", json={"token": token_in(told)}), 400)
    assert (await alice.get("/users/me")).json()["email_verified"]
    assert await fetch(app, select(FormerAddress.id)) == []


async def test_a_thief_who_confirms_an_address_does_not_take_the_owners_way_back_away(
    people: People, app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """Not even one to which the account returns: only what was left after it is forgotten."""
    alice = await people.sign_in("alice", email_verified=True)
    await change(alice, THIEF)
    mails = await deliver(app, settings)
    (told,) = (mail for mail in mails if mail["To"] == OWNER)
    await confirm(client, mails, THIEF)
    await change(alice, SECOND)
    await deliver(app, settings)
    await change(alice, THIEF)
    await confirm(client, await deliver(app, settings), THIEF)
    assert (await client.post("/email-undo/confirm", json={"token": token_in(told)})).status_code == 204
    assert [tuple(row) for row in await fetch(app, select(User.email, User.email_verified))] == [(OWNER, True)]
