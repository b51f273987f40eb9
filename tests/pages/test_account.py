"""The pages of the account, and those to which mails lead."""

from datetime import timedelta

import pytest
from litestar import Litestar
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.database.models import now
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import execute, fetch
from tests.factories import PASSWORD, add_user, client_of, log_in
from tests.outbox import deliver, token_in
from tests.pages.person import Page, Person


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database, which is enough here: the services are tested on both."""
    return sqlite_url


async def test_a_name_is_changed_and_a_taken_one_is_not(app: Litestar, member: Person) -> None:
    await add_user(app, "bob")
    page = await member.done("/account/profile", "/account/profile?done=saved", username="carol")
    assert page.form.fields["username"] == "carol"
    page = await member.refused("/account/profile", 400, username="bob")
    assert page.texts["problem"] == "Username or email already registered."
    page = await member.refused("/account/profile", 422, username="")
    assert page.texts["username-error"] == "Please fill this in."


async def test_an_address_is_changed_by_the_password_and_undone_by_the_mail(
    app: Litestar, settings: Settings, member: Person
) -> None:
    await execute(app, update(User).values(email_verified=True))
    page = await member.refused("/account/email", 403, email="new@example.org", current_password="wrong")
    assert page.texts["current_password-error"] == "The current password is wrong."
    assert page.focused == ["current_password"]
    assert page.form.fields["email"] == "new@example.org"
    where = "/account/email?done=address-changed"
    page = await member.done("/account/email", where, email="new@example.org", current_password=PASSWORD)
    assert "new@example.org" in page.texts["p"]
    mails = {mail["To"]: mail for mail in await deliver(app, settings)}
    undo = mails["alice@example.org"]
    assert "http://127.0.0.1:8000/account/undo-email#token=" in undo.get_content()
    stranger = Person(app)
    page = await stranger.refused("/account/undo-email", 400, token="forged")
    assert page.texts["problem"] == "The token is invalid, expired or used."
    await stranger.done("/account/undo-email", "/account/sign-in?done=address-restored", token=token_in(undo))
    assert [row.email for row in await fetch(app, select(User.email))] == ["alice@example.org"]


async def test_the_mail_is_sent_again(app: Litestar, settings: Settings, member: Person) -> None:
    page = await member.open("/account/email")
    assert page.form.buttons == [("action", "send")]
    await member.done("/account/email", "/account/email?done=mail-sent", action="send")
    (mail,) = await deliver(app, settings)
    await member.open("/account/verify-email")
    await member.done("/account/verify-email", "/account?done=address-verified", token=token_in(mail))
    page = await member.refused("/account/verify-email", 400, token=token_in(mail))
    assert page.texts["problem"] == "The token is invalid, expired or used."
    assert (await member.open("/account/email")).form.buttons == []


async def test_a_get_of_a_mails_page_does_nothing(app: Litestar, settings: Settings, member: Person) -> None:
    """Not even with the token in the query, where a careless program may put it."""
    await member.done("/account/email", "/account/email?done=mail-sent", action="send")
    (mail,) = await deliver(app, settings)
    for path in ("verify-email", "reset-password", "undo-email"):
        page = await member.open(f"/account/{path}?token={token_in(mail)}")
        assert page.form.fields["token"] == ""
    assert [row.email_verified for row in await fetch(app, select(User.email_verified))] == [False]


async def test_a_new_password_has_the_policys_reason_beside_it(
    app: Litestar, settings: Settings, person: Person
) -> None:
    """The token that was typed needn't be typed again."""
    await add_user(app, "alice")
    await person.send("/account/forgot-password", email="alice@example.org")
    (mail,) = await deliver(app, settings)
    page = await person.refused("/account/reset-password", 422, token=token_in(mail))
    assert page.texts["new_password-error"] == "Please fill this in."
    assert page.form.fields["token"] == token_in(mail)
    assert page.form.types["token"] == "hidden"


async def test_asking_for_a_mail_tells_nobody_who_has_an_account(app: Litestar, person: Person) -> None:
    await add_user(app, "alice")
    answers = [
        await person.send("/account/forgot-password", email=f"{name}@example.org") for name in ("alice", "nobody")
    ]
    assert len({(answer.status_code, answer.headers["Location"]) for answer in answers}) == 1


async def test_sessions_are_listed_and_ended(member: Person) -> None:
    await log_in(member.client, "alice")
    await log_in(member.client, "alice")
    page = await member.open("/account/sessions")
    ends = [form.buttons[0][1] for form in page.forms if form.buttons]
    assert len(ends) == 3
    assert ends[-1] == "others"
    await member.done("/account/sessions", "/account/sessions?done=session-ended", session_id=ends[0])
    token = page.form.fields
    for session_id in (ends[0], "x", "0", "9" * 30, "٣"):
        answer = await member.client.post("/account/sessions", data=token | {"session_id": session_id})
        assert (answer.status_code, "Session not found" in answer.text) == (404, True)
    await member.done("/account/sessions", "/account/sessions?done=sessions-ended", session_id="others")
    assert (await member.open("/account/sessions")).texts["badge"] == "this one"


async def test_a_token_is_made_shown_once_and_ended(app: Litestar, member: Person) -> None:
    """It does as its owner what its scopes say; those that only superusers may give aren't offered."""
    page = await member.refused("/account/tokens/new", 422, name="Backup", days="30")
    assert page.texts["scopes-error"] == "Choose at least one."
    assert page.form.fields["name"] == "Backup"
    assert {"scope.items:read", "scope.items:write"} <= page.form.types.keys()
    assert "scope.users:read" not in page.form.types
    fields = {"name": "Backup", "days": "30", "scope.items:read": "on"}
    shown = Page(await member.send("/account/tokens/new", **fields))
    token = shown.texts["token"]
    script = client_of(app, Authorization=f"Bearer {token}")
    assert (await script.get("/items/")).json() == []
    assert (await script.get("/users/me")).status_code == 403
    page = await member.open("/account/tokens")
    assert "Backup" in page.texts["name"]
    assert token not in str(page.texts)
    await member.done("/account/tokens", "/account/tokens?done=token-ended", token_id=page.form.buttons[0][1])
    assert (await script.get("/items/")).status_code == 401
    answer = await member.client.post("/account/tokens", data=page.form.fields | {"token_id": "x"})
    assert (answer.status_code, Page(answer).texts["lead"]) == (404, "Token not found.")


async def test_what_matters_asks_for_the_password_again_and_goes_on(app: Litestar, member: Person) -> None:
    """A form that was open meanwhile asks, too; nothing is done until then."""
    form = (await member.open("/account/delete")).form.fields
    await execute(app, update(LoginSession).values(authenticated_at=now() - timedelta(minutes=11)))
    where = "/account/confirm?next=%2Faccount%2Fdelete"
    for answer in [
        await member.client.get("/account/delete"),
        await member.client.post("/account/delete", data=form),
    ]:
        assert (answer.status_code, answer.headers["Location"]) == (303, where)
    page = await member.refused(where, 401, password="wrong")
    assert page.texts["problem"] == "Incorrect username or password."
    await member.done(where, "/account/delete", password=PASSWORD)
    await member.done("/account/delete", "/account/sign-in?done=deleted")


async def test_the_last_superuser_stays(app: Litestar, member: Person) -> None:
    await execute(app, update(User).values(is_superuser=True))
    page = await member.refused("/account/delete", 409)
    assert page.texts["problem"] == "The last superuser can't be disabled, demoted or deleted."


async def test_after_signing_out_nothing_is_left_to_go_back_to(member: Person) -> None:
    """No page is stored, and the cookie that was stands for nothing."""
    cookie = member.session or ""
    page = await member.open("/account")
    (sign_out,) = [form for form in page.forms if form.action.endswith("sign-out")]
    await member.client.post("/account/sign-out", data=sign_out.fields)
    member.client.cookies.set("session", cookie, domain="test.local")
    assert (await member.client.get("/account")).status_code == 303
