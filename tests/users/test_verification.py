"""Verifying that an e-mail address is one's own."""

import asyncio
from datetime import timedelta

from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update

from app.jobs.models import Job
from app.main import create_app
from app.security.tokens import VERIFICATION, Tokens, fingerprint
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import client_from, execute, fetch
from tests.factories import PASSWORD, People, add_user, connect_to, log_in, register, token_of
from tests.outbox import deliver, token_in
from tests.problems import assert_problem, pointers
from tests.smtp import Mailbox, smtp

SPENT = "The token is invalid, expired or used"
VERIFIED = select(User.email_verified).order_by(User.id)


async def confirm(client: AsyncClient, token: str) -> Response:
    """Confirm an address by a token and return the answer."""
    return await client.post("/email-verification/confirm", json={"token": token})


async def mailed_token(app: Litestar, alice: AsyncClient, settings: Settings) -> str:
    """Ask for the mail as alice and return its token."""
    assert (await alice.post("/email-verification")).status_code == 202
    (mail,) = await deliver(app, settings)
    assert mail["Subject"] == "Confirm your e-mail address"
    return token_in(mail)


async def verified(app: Litestar) -> list[bool]:
    """Return whose addresses are verified, by id."""
    return [row[0] for row in await fetch(app, VERIFIED)]


async def test_registration_mails_a_token_that_verifies_the_address(
    app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """A user whose address isn't verified may sign in all the same."""
    assert (await register(client, "alice")).json()["email_verified"] is False
    assert (await log_in(client, "alice@example.org")).status_code == 200
    (mail,) = await deliver(app, settings)
    assert mail["To"] == "alice@example.org"
    answer = await confirm(client, token_in(mail))
    assert answer.status_code == 204
    assert answer.content == b""
    assert await verified(app) == [True]


async def test_a_refused_registration_mails_nothing(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """The owner of the address that is taken gets no mail either."""
    await add_user(app, "alice")
    assert (await register(client, "alice")).status_code == 400
    assert await deliver(app, settings) == []


async def test_the_mail_is_sent_again_on_request(
    alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings
) -> None:
    """It goes to the caller's own address, and the answer tells nothing more."""
    answer = await alice.post("/email-verification")
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    (mail,) = await deliver(app, settings)
    assert mail["To"] == "alice@example.org"
    assert (await confirm(client, token_in(mail))).status_code == 204
    assert (await alice.get("/users/me")).json()["email_verified"] is True


async def test_who_is_verified_gets_no_more_mails(people: People, app: Litestar, settings: Settings) -> None:
    """The answer is the same as before."""
    alice = await people.sign_in("alice", email_verified=True)
    assert (await alice.post("/email-verification")).status_code == 202
    assert await deliver(app, settings) == []


async def test_a_token_works_once(alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings) -> None:
    """Of two that were mailed for one address, the second is refused, too."""
    first, second = [await mailed_token(app, alice, settings) for _ in range(2)]
    assert (await confirm(client, first)).status_code == 204
    for token in (first, second):
        assert_problem(await confirm(client, token), 400, SPENT)


async def test_of_eight_uses_at_once_one_works(
    alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings
) -> None:
    """The others are refused, and nothing fails."""
    token = await mailed_token(app, alice, settings)
    answers = await asyncio.gather(*(confirm(client, token) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [204] + [400] * 7


async def test_a_token_verifies_the_address_that_it_was_mailed_to_alone(
    alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings
) -> None:
    """A token that was mailed to one's own address can't verify a stranger's."""
    token = await mailed_token(app, alice, settings)
    body = {"email": "somebody.else@example.org", "current_password": PASSWORD}
    assert (await alice.patch("/users/me", json=body)).status_code == 200
    assert_problem(await confirm(client, token), 400, SPENT)
    assert await verified(app) == [False]
    told = {mail["To"]: mail for mail in await deliver(app, settings)}
    assert (await confirm(client, token_in(told["somebody.else@example.org"]))).status_code == 204
    assert await verified(app) == [True]


async def test_a_new_password_leaves_the_token_good(
    alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings
) -> None:
    """The token is about the address alone."""
    token = await mailed_token(app, alice, settings)
    body = {"current_password": PASSWORD, "new_password": "a new and better one"}
    assert (await alice.put("/users/me/password", json=body)).status_code == 204
    assert (await confirm(client, token)).status_code == 204


async def test_a_token_lasts_a_day(
    alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings, tokens: Tokens
) -> None:
    """Half a minute is added for clocks that differ."""
    claims = tokens.read(VERIFICATION, await mailed_token(app, alice, settings))
    assert claims.exp - claims.iat == 24 * 3600
    late = tokens.issue(VERIFICATION, claims.user_id, timedelta(seconds=-31), state=claims.state)
    assert_problem(await confirm(client, late), 400, SPENT)
    in_time = tokens.issue(VERIFICATION, claims.user_id, timedelta(seconds=-20), state=claims.state)
    assert (await confirm(client, in_time)).status_code == 204


async def test_a_token_that_nobody_here_made_is_refused(
    alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings, tokens: Tokens
) -> None:
    """The tokens are tampered with, foreign, another user's, bound to nothing, or none at all."""
    bob = await add_user(app, "bob")
    token = await mailed_token(app, alice, settings)
    user_id = tokens.read(VERIFICATION, token).user_id
    head, body, signature = token.split(".")
    state = fingerprint("alice@example.org")
    hour = timedelta(hours=1)
    other = Tokens(secret="another-service-" + "x" * 32, algorithm="HS256", issuer=settings.url)
    for forged in (
        f"{head}.{body}.{signature[::-1]}",
        f"{head}.{body}.",
        other.issue(VERIFICATION, user_id, hour, state=state),
        tokens.issue(VERIFICATION, bob.id, hour, state=state),
        tokens.issue(VERIFICATION, user_id, hour),
        tokens.issue(VERIFICATION, 12345, hour, state=state),
        token_of(alice),
        "",
        "garbage",
        "\N{SNOWMAN}",
    ):
        assert_problem(await confirm(client, forged), 400, SPENT)
    assert await verified(app) == [False, False]
    assert (await confirm(client, token)).status_code == 204


async def test_a_disabled_account_is_not_verified(
    alice: AsyncClient, client: AsyncClient, app: Litestar, settings: Settings
) -> None:
    """It can't ask for the mail either."""
    token = await mailed_token(app, alice, settings)
    await execute(app, update(User).values(is_active=False))
    assert_problem(await confirm(client, token), 400, SPENT)
    assert (await alice.post("/email-verification")).status_code == 401
    assert await verified(app) == [False]


async def test_only_signed_in_users_ask_for_the_mail(client: AsyncClient) -> None:
    assert_problem(await client.post("/email-verification"), 401, "Not authenticated")


async def test_wrong_fields_are_named(client: AsyncClient) -> None:
    """The token is required, and is the only field."""
    for body, names in [
        ({}, ["/token"]),
        ({"token": None}, ["/token"]),
        ({"token": "x" * 2049}, ["/token"]),
        ({"token": "x", "email": "alice@example.org"}, ["/email"]),
    ]:
        assert pointers(await client.post("/email-verification/confirm", json=body)) == names, body


async def test_one_mailbox_is_mailed_five_times_an_hour(people: People, app: Litestar) -> None:
    """The limit is on requests, and each user has their own."""
    alice, bob = await people.sign_in("alice"), await people.sign_in("bob")
    for _ in range(5):
        assert (await alice.post("/email-verification")).status_code == 202
    answer = await alice.post("/email-verification")
    assert_problem(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    assert (await bob.post("/email-verification")).status_code == 202
    assert len(await fetch(app, select(Job.id))) == 6


async def test_one_network_asks_fifty_times_an_hour(people: People, app: Litestar) -> None:
    """The limit counts all users of the network together; other networks have their own."""
    for number in range(10):
        user = await people.sign_in(f"user{number}")
        assert {(await user.post("/email-verification")).status_code for _ in range(5)} == {202}
    alice = await people.sign_in("alice")
    assert_problem(await alice.post("/email-verification"), 429)
    elsewhere = client_from(app, "198.51.100.7", Authorization=alice.headers["Authorization"])
    assert (await elsewhere.post("/email-verification")).status_code == 202


async def test_the_token_works_as_a_real_server_received_it(settings: Settings) -> None:
    """The mail of a registration goes through SMTP on the wire, and its token verifies the address."""
    mailbox = Mailbox()
    async with smtp(mailbox) as port:
        app = create_app(replace(settings, smtp_url=f"smtp://127.0.0.1:{port}", jobs_in_process=True))
        async with connect_to(app) as client:
            assert (await register(client, "alice")).status_code == 201
            _, mail = await mailbox.next()
            assert (await confirm(client, token_in(mail))).status_code == 204
            assert await verified(app) == [True]
