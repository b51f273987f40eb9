"""Attacks by mail: strangers who are mailed again and again, and owners who aren't because somebody else was."""

from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select, update

from app.jobs.models import Job
from app.settings import Settings
from tests.auth.oauth import client_from, execute, fetch
from tests.factories import PASSWORD, People, add_user, log_in, parts_of, register
from tests.jobs.workers import make_due
from tests.outbox import deliver, token_in

STRANGER = "stranger@example.org"
OTHER = "another and a better one"


async def sign_up(client: AsyncClient, username: str, email: str = STRANGER) -> AsyncClient:
    """Register, and sign the client in."""
    client.headers.pop("Authorization", None)
    assert (await register(client, username, email=email)).status_code == 201
    token = (await log_in(client, username)).json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"
    return client


async def change_address(client: AsyncClient, email: str, password: str = PASSWORD) -> None:
    """Change the caller's address."""
    answer = await client.patch("/users/me", json={"email": email, "current_password": password})
    assert answer.status_code == 200, answer.text


async def change_password(client: AsyncClient, times: int) -> None:
    """Set the same password again."""
    body = {"current_password": PASSWORD, "new_password": PASSWORD}
    for _ in range(times):
        assert (await client.put("/users/me/password", json=body)).status_code == 204


async def test_whatever_somebody_does_a_strangers_mailbox_gets_five_mails_an_hour(
    app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """They register with its address in several forms, change its case, their password and account, and ask again."""
    eve = await sign_up(client, "eve")
    for email in ("STRANGER@example.org", "Stranger@example.org", STRANGER):
        await change_address(eve, email)
    mails = await deliver(app, settings)
    await change_password(eve, 3)
    for _ in range(5):
        await eve.post("/email-verification")
    await eve.post("/password-reset", json={"email": STRANGER})
    await eve.delete("/users/me")
    for number in range(3):
        eve = await sign_up(client, f"eve{number}", f"stran.ger+{number}@example.org")
        await eve.post("/password-reset", json={"email": f"stran.ger+{number}@example.org"})
    await sign_up(client, "eve")
    mails += await deliver(app, settings)
    assert len(mails) == 5
    assert await deliver(app, settings) == []
    kinds = [row.kind for row in await fetch(app, select(Job.kind))]
    assert len(kinds) == len(set(kinds)) <= 4


async def test_notices_over_the_limit_are_merged_and_not_lost(
    app: Litestar, people: People, settings: Settings
) -> None:
    alice = await people.sign_in("alice", email_verified=True)
    await change_password(alice, 8)
    assert [mail["Subject"] for mail in await deliver(app, settings)] == ["Your password was changed"] * 5
    await change_address(alice, "new@example.org")
    await make_due(parts_of(app).database)
    told = sorted((mail["To"], mail["Subject"]) for mail in await deliver(app, settings))
    assert told == [
        ("alice@example.org", "Your e-mail address was changed"),
        ("alice@example.org", "Your password was changed"),
        ("new@example.org", "Confirm your e-mail address"),
    ]


async def test_a_stranger_who_uses_up_a_mailbox_delays_no_notice_to_its_owner(
    app: Litestar, people: People, client: AsyncClient, settings: Settings
) -> None:
    alice = await people.sign_in("alice", email=STRANGER, email_key=STRANGER, email_verified=True)
    for number in range(7):
        await sign_up(client, f"eve{number}", f"stranger+{number}@example.org")
    await deliver(app, settings)
    await change_password(alice, 1)
    (mail,) = await deliver(app, settings)
    assert (mail["To"], mail["Subject"]) == (STRANGER, "Your password was changed")


async def test_resets_that_a_stranger_asks_for_do_not_keep_the_owner_from_asking(
    app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """The owner, elsewhere, is answered as ever; the mail comes when the hour has room, and its token is good then."""
    await add_user(app, "alice", email_verified=True)
    body = {"email": "alice@example.org"}
    assert [(await client.post("/password-reset", json=body)).status_code for _ in range(6)] == [202] * 5 + [429]
    assert len(await deliver(app, settings)) == 5
    owner = client_from(app, "203.0.113.9")
    assert (await owner.post("/password-reset", json=body)).status_code == 202
    assert await deliver(app, settings) == []
    await execute(app, update(Job).values(run_at=Job.created_at))
    (mail,) = await deliver(app, settings)
    answer = await owner.post("/password-reset/confirm", json={"token": token_in(mail), "new_password": OTHER})
    assert answer.status_code == 204
