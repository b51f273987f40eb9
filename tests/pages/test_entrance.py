"""Signing up, in and out by pages, and the browser's session."""

from datetime import timedelta
from hashlib import sha256

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.database.models import now
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import execute, fetch
from tests.factories import PASSWORD, Statements, add_user, log_in, on_sqlite
from tests.outbox import deliver, token_in
from tests.pages.person import Page, Person, visiting

OTHER = "a new and better one"


async def test_a_person_does_all_of_it_without_a_script(app: Litestar, settings: Settings, person: Person) -> None:
    """Sign up, confirm, sign out, forget the password, set a new one, sign in, and leave."""
    welcome = await person.sign_up("alice", PASSWORD)
    assert "A mail is on its way to you" in welcome.texts["notice"]
    (mail,) = await deliver(app, settings)
    assert "\n" + token_in(mail) + "\n" in mail.get_content()
    assert f"http://127.0.0.1:8000/account/verify-email#token={token_in(mail)}\n" in mail.get_content()
    page = await person.done("/account/verify-email", "/account?done=address-verified", token=token_in(mail))
    assert "confirmed" in page.texts["notice"]
    page = await person.open("/account")
    sign_out = next(form for form in page.forms if form.action.endswith("sign-out"))
    answer = await person.client.post("/account/sign-out", data=sign_out.fields)
    assert answer.headers["Location"] == "/account/sign-in?done=signed-out"
    assert person.session is None
    page = await person.done(
        "/account/forgot-password", "/account/forgot-password?done=reset-sent", email="alice@example.org"
    )
    (mail,) = await deliver(app, settings)
    await person.done(
        "/account/reset-password",
        "/account/sign-in?done=password-reset",
        token=token_in(mail),
        new_password=OTHER,
    )
    await person.refused("/account/sign-in", 401, username="alice", password=PASSWORD)
    await person.sign_in("alice@example.org", OTHER)
    await person.done("/account/delete", "/account/sign-in?done=deleted")
    assert await fetch(app, select(User.id)) == []


@on_sqlite
async def test_errors_stand_beside_their_fields_and_what_was_typed_stays(person: Person) -> None:
    """The first wrong field has the focus, and what is wrong belongs to it; a password comes back nowhere."""
    page = await person.refused("/account/sign-up", 422, username="a b", email="nonsense", password=PASSWORD)
    assert page.texts["title"].startswith("Error: Sign up")
    assert page.texts["username-error"].startswith("It must have 1 to 64 characters (letters")
    assert "username-error" in page.described["username"]
    assert page.focused == ["username"]
    assert (page.form.fields["username"], page.form.fields["email"]) == ("a b", "nonsense")
    assert page.form.fields["password"] == ""
    page = await person.refused("/account/sign-up", 422, username="alice", email="alice@nowhere", password="x")
    assert page.texts["email-error"] == "It must be an e-mail address."
    page = await person.refused("/account/sign-in", 400, username="alice")
    assert page.texts["password-error"] == "Please fill this in."


@on_sqlite
async def test_a_taken_name_stands_above_the_form(app: Litestar, person: Person) -> None:
    await add_user(app, "alice")
    page = await person.refused("/account/sign-up", 400, username="Alice", email="other@example.org", password=PASSWORD)
    assert page.texts["problem"] == "Username or email already registered."
    assert page.form.fields["username"] == "Alice"
    assert person.session is None


@on_sqlite
async def test_a_wrong_password_and_an_unknown_name_look_alike(app: Litestar, person: Person) -> None:
    """After ten, the answer is the API's: 429, which says when to come back."""
    await add_user(app, "alice")
    wrong = await person.refused("/account/sign-in", 401, username="alice", password="wrong")
    unknown = await person.refused("/account/sign-in", 401, username="nobody", password="wrong")
    assert wrong.texts["problem"] == unknown.texts["problem"] == "Incorrect username or password."
    for _ in range(9):
        await person.refused("/account/sign-in", 401, username="alice", password="wrong")
    answer = await person.send("/account/sign-in", username="alice", password=PASSWORD)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert "Too many attempts" in Page(answer).texts["problem"]


@on_sqlite
async def test_a_signed_in_visitor_goes_on(member: Person) -> None:
    for path in ("sign-in", "sign-up"):
        answer = await member.client.get(f"/account/{path}?next=/account/sessions")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/account/sessions")


@on_sqlite
async def test_who_is_sent_to_sign_in_comes_back(app: Litestar, person: Person) -> None:
    await add_user(app, "alice")
    answer = await person.client.get("/account/sessions?done=saved")
    assert answer.status_code == 303
    path = answer.headers["Location"]
    assert path == "/account/sign-in?next=%2Faccount%2Fsessions%3Fdone%3Dsaved"
    await person.done(path, "/account/sessions?done=saved", username="alice", password=PASSWORD)


@on_sqlite
@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "/\t/evil.example",
        "/\n//evil.example",
        "evil",
        "javascript:alert(1)",
        "/account\r\nX: y",
        "/\u00e9",
        "/account/sign-in?next=/account",
        "/account/sign-out",
        "/" + "a" * 6000,
        "/" + '"' * 2000,
    ],
)
async def test_a_sign_in_leads_to_no_other_place(app: Litestar, person: Person, path: str) -> None:
    """It leads to the account instead, whether the address or the form names the place."""
    await add_user(app, "alice")
    page = Page(await person.client.get("/account/sign-in", params={"next": path}))
    assert "next" not in page.form.fields
    fields = {"username": "alice", "password": PASSWORD, "next": path}
    await person.done("/account/sign-in", "/account", **fields)


@on_sqlite
@pytest.mark.parametrize("path", ["/account/history?x=" + "a" * 5970, "/account/history?x=" + '"' * 1180])
async def test_the_longest_way_back_fits_into_headers_and_forms(app: Litestar, person: Person, path: str) -> None:
    """It is short enough for proxies that take 8 KB, however much of it an address has to encode."""
    await add_user(app, "alice")
    answer = await person.client.get(path)
    where = answer.headers["Location"]
    assert answer.status_code == 303
    form = (await person.open(where)).form.fields
    assert len(form["next"]) > 1000
    fields = form | {"username": "alice", "password": PASSWORD}
    answers = [answer, await person.client.post("/account/sign-in", data=fields)]
    assert answers[1].status_code == 303
    assert (await person.client.get(answers[1].headers["Location"])).status_code == 200
    sizes = [sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) for answer in answers]
    assert max(sizes) < 8000


async def test_the_database_has_a_digest_of_the_cookie(app: Litestar, member: Person) -> None:
    """Each sign-in has a value of its own, and a browser's session before it ends."""
    first = member.session or ""
    assert len(first) == 43
    digests = [row.cookie_digest for row in await fetch(app, select(LoginSession.cookie_digest))]
    assert digests == [sha256(first.encode()).digest()]
    member.client.cookies.delete("session")
    page = await member.open("/account/sign-in")
    member.client.cookies.set("session", first, domain="test.local")
    fields = page.form.fields | {"username": "alice", "password": PASSWORD}
    await member.client.post("/account/sign-in", data=fields)
    digests = [row.cookie_digest for row in await fetch(app, select(LoginSession.cookie_digest))]
    assert digests == [sha256((member.session or "").encode()).digest()]
    assert member.session != first


@on_sqlite
async def test_a_changed_password_changes_the_cookie(app: Litestar, member: Person) -> None:
    """Whoever had the old value is out, and every other session has ended."""
    old = member.session or ""
    assert (await log_in(member.client, "alice")).status_code == 200
    await member.done(
        "/account/password",
        "/account/password?done=password-changed",
        current_password=PASSWORD,
        new_password=OTHER,
    )
    assert member.session not in {None, old}
    assert len(await fetch(app, select(LoginSession.id))) == 1
    thief = Person(app)
    thief.client.cookies.set("session", old)
    assert (await thief.client.get("/account")).status_code == 303


@on_sqlite
async def test_a_disabled_user_is_out_at_once(app: Litestar, member: Person) -> None:
    await execute(app, update(User).values(is_active=False))
    answer = await member.client.get("/account")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/sign-in?next=%2Faccount")
    await member.refused("/account/sign-in", 401, username="alice", password=PASSWORD)


async def test_a_session_lives_on_while_it_is_used(app: Litestar, member: Person) -> None:
    """Its end is put off at most once a minute, and no further than any session's; unused, it ends."""
    long_ago = now() - timedelta(days=10)
    await execute(app, update(LoginSession).values(last_used_at=long_ago, expires_at=now() + timedelta(days=4)))
    await member.open("/account")
    (row,) = await fetch(app, select(LoginSession.last_used_at, LoginSession.expires_at))
    assert row.expires_at - row.last_used_at == timedelta(days=14)
    began = now() - timedelta(days=89)
    await execute(app, update(LoginSession).values(last_used_at=long_ago, created_at=began))
    await member.open("/account")
    (row,) = await fetch(app, select(LoginSession.created_at, LoginSession.expires_at))
    assert row.expires_at - row.created_at == timedelta(days=90)
    await execute(app, update(LoginSession).values(expires_at=now()))
    assert (await member.client.get("/account")).status_code == 303


async def test_a_page_asks_the_database_once(member: Person, statements: Statements) -> None:
    """For session and user together, as a call of the API; for a stranger it doesn't ask."""
    await member.open("/account")
    assert len(statements) == 1
    member.client.cookies.delete("session")
    statements.clear()
    await member.open("/account/sign-in")
    assert statements == []


@on_sqlite
async def test_the_api_takes_no_cookie(member: Person) -> None:
    answer = await member.client.get("/users/me")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("url", "name", "secure"),
    [("http://127.0.0.1:8000", "session", False), ("https://api.example.org/v1", "__Host-session", True)],
)
async def test_the_cookie_is_for_this_host_and_no_script(sqlite_url: str, url: str, name: str, *, secure: bool) -> None:
    async with visiting(sqlite_url, public_url=url) as (app, person):
        await add_user(app, "alice")
        person.client.base_url = f"{url.partition(':')[0]}://test"
        answer = await person.send("/account/sign-in", username="alice", password=PASSWORD)
    (cookie,) = answer.headers.get_list("Set-Cookie")
    value, *attributes = cookie.split("; ")
    assert value.startswith(f"{name}=")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(attributes)
    assert ("Secure" in attributes) == secure
    (age,) = [int(text.removeprefix("Max-Age=")) for text in attributes if text.startswith("Max-Age=")]
    assert 89 * 86400 < age <= 90 * 86400
    assert answer.headers["Location"] == ("/v1/account" if secure else "/account")


async def test_while_registration_is_closed_the_page_says_so(sqlite_url: str) -> None:
    async with visiting(sqlite_url, registration="closed") as (_, person):
        page = await person.open("/account/sign-up")
        assert page.forms == []
        assert "Nobody can open an account" in page.texts["lead"]
        token = (await person.open("/account/sign-in")).form.fields["form_token"]
        fields = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
        answer = await person.client.post("/account/sign-up", data=fields | {"form_token": token})
        assert answer.status_code == 403
        assert Page(answer).texts["problem"] == "Registration is closed."


@on_sqlite
async def test_the_front_page_is_for_browsers_and_json_for_others(client: AsyncClient, person: Person) -> None:
    answer = await client.get("/")
    assert answer.json() == {
        "name": "Backend API",
        "version": "1.0.0",
        "docs": "http://127.0.0.1:8000/docs",
        "openapi": "http://127.0.0.1:8000/openapi.json",
    }
    page = await person.open("/")
    assert {"./docs", "./account/sign-in", "./account/sign-up"} <= set(page.addresses)
    assert answer.headers["Vary"] == "Accept"
