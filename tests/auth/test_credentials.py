"""Changing a password, and setting a new one after the old one was forgotten."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import delete, func, select, update

from app.auth.credentials import reset_state
from app.auth.models import LoginSession
from app.auth.repository import CredentialRepository
from app.database.sessions import Database
from app.jobs.models import Job
from app.main import create_app
from app.security.tokens import RESET, Tokens
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import bearer, client_from, execute, fetch, new_user, open_session, refresh, status_of
from tests.factories import PASSWORD, People, Statements, add_user, connect_to, log_in
from tests.outbox import deliver, run_jobs, token_in
from tests.problems import assert_problem, pointers
from tests.smtp import Mailbox, smtp

NEW = "a new and better one"
WRONG = "The current password is wrong"
SPENT = "The token is invalid, expired or used"
SESSIONS = select(func.count()).select_from(LoginSession)
JOBS = select(Job.kind, Job.payload)


async def change(client: AsyncClient, current: str = PASSWORD, new: str = NEW) -> Response:
    """Change the caller's password and return the answer."""
    return await client.put("/users/me/password", json={"current_password": current, "new_password": new})


async def ask(client: AsyncClient, email: str = "alice@example.org") -> Response:
    """Ask for a reset mail and return the answer."""
    return await client.post("/password-reset", json={"email": email})


async def confirm(client: AsyncClient, token: str, new: str = NEW) -> Response:
    """Set a new password by a token and return the answer."""
    return await client.post("/password-reset/confirm", json={"token": token, "new_password": new})


async def mailed_token(app: Litestar, client: AsyncClient, settings: Settings) -> str:
    """Ask for a reset mail and return its token."""
    assert (await ask(client)).status_code == 202
    (mail,) = await deliver(app, settings)
    assert mail["To"] == "alice@example.org"
    assert mail["Subject"] == "Set a new password"
    return token_in(mail)


async def state_of(database: Database, user_id: int) -> str:
    """Return the fingerprint of the state that a user's tokens are bound to."""
    credentials = await CredentialRepository(database).by_id(user_id)
    assert credentials
    return reset_state(credentials)


# Changing it ----------------------------------------------------------------------------------------------------------


async def test_a_new_password_replaces_the_old_one(alice: AsyncClient, client: AsyncClient) -> None:
    """The old password is refused at once."""
    answer = await change(alice)
    assert answer.status_code == 204
    assert answer.content == b""
    assert (await log_in(client, "alice", password=NEW)).status_code == 200
    assert (await log_in(client, "alice")).status_code == 401


async def test_changing_it_ends_every_other_session(app: Litestar, client: AsyncClient) -> None:
    """The caller's session goes on, as do those of other users."""
    user = await add_user(app, "alice")
    here, *others = [await open_session(app, user.id) for _ in range(3)]
    bob = await new_user(app, "bob")
    client.headers.update(bearer(here))
    assert (await change(client)).status_code == 204
    del client.headers["Authorization"]
    assert [await status_of(client, pair) for pair in (here, bob, *others)] == [200, 200, 401, 401]
    assert (await refresh(client, others[0])).json()["error"] == "invalid_grant"
    assert (await refresh(client, here)).status_code == 200


async def test_a_mail_tells_that_it_was_changed(alice: AsyncClient, app: Litestar, settings: Settings) -> None:
    """The mail has neither the password nor a token in it."""
    await change(alice)
    (mail,) = await deliver(app, settings)
    assert (mail["To"], mail["Subject"]) == ("alice@example.org", "Your password was changed")
    assert NEW not in mail.get_content()
    assert "token=" not in mail.get_content()


async def test_a_wrong_current_password_changes_nothing(
    people: People, alice: AsyncClient, client: AsyncClient
) -> None:
    """It ends no session either."""
    other = await people.sign_in_again((await alice.get("/users/me")).json()["id"])
    for wrong in ("wrong", "", PASSWORD + " ", PASSWORD.upper()):
        assert_problem(await change(alice, wrong), 403, WRONG)
    assert (await other.get("/users/me")).status_code == 200
    assert (await log_in(client, "alice")).status_code == 200


async def test_a_wrong_current_password_counts_as_a_failed_login(alice: AsyncClient, client: AsyncClient) -> None:
    """After ten failures of either kind, the right password is refused for both."""
    for _ in range(5):
        assert (await change(alice, "wrong")).status_code == 403
        assert (await log_in(client, "alice", password="wrong")).status_code == 401
    answer = await change(alice)
    assert_problem(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 15 * 60
    assert (await log_in(client, "alice")).status_code == 429


async def test_of_two_changes_at_once_one_is_made(people: People, alice: AsyncClient, client: AsyncClient) -> None:
    """The other finds that the current password is another by now, or that its session has ended."""
    other = await people.sign_in_again((await alice.get("/users/me")).json()["id"])
    answers = await asyncio.gather(change(alice, new="the first one"), change(other, new="the second one"))
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) in ([204, 401], [204, 403])
    password = ["the first one", "the second one"][statuses.index(204)]
    assert (await log_in(client, "alice", password=password)).status_code == 200


async def test_a_login_with_the_old_password_does_not_outlive_the_change(
    alice: AsyncClient, app: Litestar, client: AsyncClient
) -> None:
    """A login that is being checked meanwhile is refused, or its session ends with the others."""
    answers = await asyncio.gather(log_in(client, "alice"), change(alice), log_in(client, "alice"))
    assert answers[1].status_code == 204
    assert {answer.status_code for answer in answers} <= {200, 204, 401}
    assert (await fetch(app, SESSIONS))[0][0] == 1


async def test_no_transaction_is_open_while_passwords_are_hashed(alice: AsyncClient, statements: Statements) -> None:
    """One transaction replaces the hash, ends the sessions, counts the mail, enqueues it and keeps the event."""
    statements.clear()
    await change(alice)
    words = [statement.split()[0] for statement in statements]
    assert words == ["SELECT", "SELECT", "BEGIN", "UPDATE", "DELETE", "INSERT", "UPDATE", "INSERT", "INSERT", "COMMIT"]


async def test_what_is_wrong_with_a_change_is_named(alice: AsyncClient) -> None:
    """Passwords that registration wouldn't take and missing or unknown fields are each named."""
    good = {"current_password": PASSWORD, "new_password": NEW}
    for body, names in [
        ({}, ["/current_password", "/new_password"]),
        (good | {"new_password": ""}, ["/new_password"]),
        (good | {"new_password": "x" * 257}, ["/new_password"]),
        (good | {"new_password": "a\0b"}, ["/new_password"]),
        (good | {"new_password": None}, ["/new_password"]),
        (good | {"username": "alice"}, ["/username"]),
    ]:
        assert pointers(await alice.put("/users/me/password", json=body)) == names, body


# Forgetting it --------------------------------------------------------------------------------------------------------


async def test_a_mailed_token_sets_a_new_password(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """A second mail tells that the password was set."""
    await add_user(app, "alice")
    token = await mailed_token(app, client, settings)
    answer = await confirm(client, token)
    assert answer.status_code == 204
    assert answer.content == b""
    assert (await log_in(client, "alice", password=NEW)).status_code == 200
    assert (await log_in(client, "alice")).status_code == 401
    (mail,) = await deliver(app, settings)
    assert mail["Subject"] == "Your password was changed"


async def test_a_reset_ends_every_session(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """The session of somebody who stole the old password ends, too."""
    alice, bob = await new_user(app, "alice"), await new_user(app, "bob")
    assert (await confirm(client, await mailed_token(app, client, settings))).status_code == 204
    assert [await status_of(client, pair) for pair in (alice, bob)] == [401, 200]
    assert (await refresh(client, alice)).json()["error"] == "invalid_grant"


async def test_a_token_works_once(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """The second use changes nothing, and neither does another token that was mailed before the first use."""
    await add_user(app, "alice")
    first, second = [await mailed_token(app, client, settings) for _ in range(2)]
    assert (await confirm(client, first)).status_code == 204
    for token in (first, second):
        assert_problem(await confirm(client, token, "a third one"), 400, SPENT)
    assert (await log_in(client, "alice", password=NEW)).status_code == 200


async def test_of_eight_uses_at_once_one_works(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """Each use brings a password of its own."""
    await add_user(app, "alice")
    token = await mailed_token(app, client, settings)
    answers = await asyncio.gather(*(confirm(client, token, f"password {number}") for number in range(8)))
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [204] + [400] * 7
    password = f"password {statuses.index(204)}"
    assert (await log_in(client, "alice", password=password)).status_code == 200


async def test_a_token_ends_when_what_it_is_bound_to_changes(
    alice: AsyncClient, app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """It is bound to the password that it replaces and to the address that it was mailed to."""
    token = await mailed_token(app, client, settings)
    body = {"email": "new@example.org", "current_password": PASSWORD}
    assert (await alice.patch("/users/me", json=body)).status_code == 200
    assert_problem(await confirm(client, token), 400, SPENT)
    body["email"] = "alice@example.org"
    assert (await alice.patch("/users/me", json=body)).status_code == 200
    await change(alice)
    assert_problem(await confirm(client, token), 400, SPENT)
    assert (await log_in(client, "alice", password=NEW)).status_code == 200


async def test_a_token_lasts_ten_minutes(
    app: Litestar, client: AsyncClient, settings: Settings, database: Database, tokens: Tokens
) -> None:
    """They count from when the mail was made, and half a minute is added for clocks that differ."""
    user = await add_user(app, "alice")
    claims = tokens.read(RESET, await mailed_token(app, client, settings))
    assert claims.exp - claims.iat == 600
    state = await state_of(database, user.id)
    late = tokens.issue(RESET, user.id, timedelta(seconds=-31), state=state)
    assert_problem(await confirm(client, late), 400, SPENT)
    in_time = tokens.issue(RESET, user.id, timedelta(seconds=-20), state=state)
    assert (await confirm(client, in_time)).status_code == 204


async def test_a_token_that_nobody_here_made_is_refused(
    app: Litestar, client: AsyncClient, settings: Settings, database: Database, tokens: Tokens
) -> None:
    """The tokens are tampered with, foreign, another user's, bound to nothing, or none at all."""
    user, bob = await add_user(app, "alice"), await add_user(app, "bob")
    token = await mailed_token(app, client, settings)
    head, body, signature = token.split(".")
    state = await state_of(database, user.id)
    hour = timedelta(hours=1)
    other = Tokens(secret="another-service-" + "x" * 32, algorithm="HS256", issuer=settings.url)
    for forged in (
        f"{head}.{body}.{signature[::-1]}",
        f"{head}.{body[::-1]}.{signature}",
        f"{head}.{body}.",
        other.issue(RESET, user.id, hour, state=state),
        tokens.issue(RESET, bob.id, hour, state=state),
        tokens.issue(RESET, user.id, hour),
        tokens.issue(RESET, 12345, hour, state=state),
        "",
        "garbage",
        "\N{SNOWMAN}",
    ):
        assert_problem(await confirm(client, forged), 400, SPENT)
    assert (await confirm(client, token)).status_code == 204


async def test_a_refused_password_leaves_the_token_good(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """The user can try again with another password."""
    await add_user(app, "alice")
    token = await mailed_token(app, client, settings)
    for body, names in [
        ({"token": token, "new_password": ""}, ["/new_password"]),
        ({"token": token}, ["/new_password"]),
        ({"token": 5, "new_password": NEW}, ["/token"]),
        ({"token": token, "new_password": NEW, "email": "x"}, ["/email"]),
    ]:
        assert pointers(await client.post("/password-reset/confirm", json=body)) == names
    assert (await confirm(client, token)).status_code == 204


async def test_a_disabled_account_gets_no_token_and_can_use_none(
    app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """A token that was mailed before is refused, too, and the answers don't tell why."""
    await add_user(app, "alice")
    token = await mailed_token(app, client, settings)
    await execute(app, update(User).values(is_active=False))
    assert_problem(await confirm(client, token), 400, SPENT)
    assert (await ask(client)).status_code == 202
    assert await deliver(app, settings) == []


async def test_the_answer_tells_nothing_about_the_account(
    app: Litestar, client: AsyncClient, statements: Statements, hashes: Counter[str]
) -> None:
    """A known, an unknown and a disabled account get the same body after the same statements, one job and no hash."""
    await add_user(app, "alice")
    await add_user(app, "bob", is_active=False)
    hashes.clear()
    seen = []
    for email in ("alice@example.org", "nobody@example.org", "bob@example.org"):
        await execute(app, delete(Job))
        statements.clear()
        answer = await ask(client, email)
        jobs = [tuple(row) for row in await fetch(app, JOBS)]
        assert jobs == [("password_reset_mail", {"email": email})]
        headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "date"}}
        seen.append((answer.status_code, answer.json(), headers, list(statements)))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][:2] == (202, {"status": "accepted"})
    assert hashes == {}


async def test_an_address_is_known_in_any_case(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """The mail goes to the address as it was registered."""
    await add_user(app, "alice")
    await ask(client, "ALICE@Example.org")
    (mail,) = await deliver(app, settings)
    assert mail["To"] == "alice@example.org"


async def test_what_is_no_address_is_named(client: AsyncClient) -> None:
    """It is refused before anything is enqueued or counted."""
    for body, names in [
        ({}, ["/email"]),
        ({"email": "alice"}, ["/email"]),
        ({"email": ""}, ["/email"]),
        ({"email": None}, ["/email"]),
        ({"email": "a@b@c"}, ["/email"]),
        ({"email": "alice@example.org\r\nBcc: eve@example.net"}, ["/email"]),
        ({"email": "alice@example.org", "username": "alice"}, ["/username"]),
    ]:
        assert pointers(await client.post("/password-reset", json=body)) == names, body


@pytest.mark.in_process("that reach into the application's process")
async def test_one_mailbox_is_asked_for_five_times_an_hour(app: Litestar, client: AsyncClient) -> None:
    """The limit is the same for unknown accounts and in any case; other mailboxes have their own."""
    await add_user(app, "alice")
    for email in ("alice@example.org", "nobody@example.org"):
        for _ in range(5):
            assert (await ask(client, email)).status_code == 202
        for spelling in (email, email.upper()):
            answer = await ask(client, spelling)
            assert_problem(answer, 429)
            assert 0 < int(answer.headers["retry-after"]) <= 3600
    assert (await ask(client, "bob@example.org")).status_code == 202


async def test_one_network_asks_fifty_times_an_hour(app: Litestar, client: AsyncClient) -> None:
    """The limit counts all mailboxes together; other networks have their own."""
    for number in range(50):
        assert (await ask(client, f"user{number}@example.org")).status_code == 202
    assert_problem(await ask(client, "one.more@example.org"), 429)
    assert (await ask(client_from(app, "198.51.100.7"), "one.more@example.org")).status_code == 202


async def test_a_job_holds_no_token(app: Litestar, client: AsyncClient) -> None:
    """A reader of the table gains no right by it, and done jobs leave no row."""
    await add_user(app, "alice")
    await ask(client)
    assert [tuple(row) for row in await fetch(app, JOBS)] == [("password_reset_mail", {"email": "alice@example.org"})]
    assert await run_jobs(app) == 2
    assert await fetch(app, JOBS) == []


async def test_the_token_works_as_a_real_server_received_it(settings: Settings) -> None:
    """The worker runs in the application's process, and the mail goes through SMTP on the wire."""
    mailbox = Mailbox()
    async with smtp(mailbox) as port:
        url = f"smtp://127.0.0.1:{port}"
        app = create_app(replace(settings, smtp_url=url, jobs_in_process=True, mail_from="Desk <desk@example.org>"))
        async with connect_to(app) as client:
            await add_user(app, "alice")
            assert (await ask(client)).status_code == 202
            envelope, mail = await mailbox.next()
            assert (envelope.mail_from, envelope.rcpt_tos) == ("desk@example.org", ["alice@example.org"])
            assert (await confirm(client, token_in(mail))).status_code == 204
            assert (await log_in(client, "alice", password=NEW)).status_code == 200
            _, notice = await mailbox.next()
            assert notice["Subject"] == "Your password was changed"


async def test_a_mail_that_fails_fails_no_request(settings: Settings, app: Litestar, client: AsyncClient) -> None:
    """The requests succeed, and the mail is tried again later."""
    user = await add_user(app, "alice")
    client.headers.update(bearer(await open_session(app, user.id)))
    broken = create_app(replace(settings, mail_dir="/dev/null/outbox"))
    assert (await change(client)).status_code == 204
    assert (await ask(client)).status_code == 202
    async with broken.lifespan():
        assert await run_jobs(broken) == 3  # one of them has enqueued another
    rows = await fetch(app, select(Job.attempt, Job.failed_at))
    assert [tuple(row) for row in rows] == [(1, None), (1, None)]
    assert (await log_in(client, "alice", password=NEW)).status_code == 200
