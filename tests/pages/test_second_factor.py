"""Second factors on pages: asked for at a sign-in, enrolled and removed."""

import json
from time import time
from urllib.parse import urlencode

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select, update

from app.auth import two_steps
from app.auth.models import LoginSession
from app.main import FEATURES, create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import bearer, execute, fetch, open_session
from tests.auth.test_fresh_sign_in import age
from tests.factories import PASSWORD, SECRET, add_user, client_of, connect_to
from tests.factors.authenticator import Authenticator
from tests.factors.totp import code_of, enrol, forget_steps, stop_clock, wrong_code_of
from tests.oauth.flow import add_client, parameters
from tests.pages.person import Page, Person, visiting
from tests.pages.test_passkeys import CONFIRM, options_of

CODE = "/account/sign-in/code"
SECURITY = "/account/security"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database, which is enough here: the services are tested on both."""
    return sqlite_url


@pytest.fixture
async def secret(app: Litestar, alice: AsyncClient) -> str:
    """The secret of the authenticator app of alice, who has one."""
    return (await enrol(app, alice))[0]


async def prove_password(person: Person, query: str = "") -> Page:
    """Sign in as alice up to the page that asks for the code."""
    return await person.done(f"/account/sign-in{query}", f"{CODE}{query}", username="alice", password=PASSWORD)


def ticket_of(person: Person) -> str:
    """Return the ticket that the browser has."""
    return person.client.cookies.get("sign-in") or ""


async def methods(app: Litestar) -> list[str]:
    """Return how each session was signed in."""
    return sorted(row.amr for row in await fetch(app, select(LoginSession.amr)))


async def test_a_sign_in_asks_for_the_code_on_a_page_of_its_own(app: Litestar, person: Person, secret: str) -> None:
    """Neither page nor cookie has the password; a wrong code is told beside the field, and a right one works once."""
    page = await prove_password(person, "?next=%2Faccount%2Fsessions")
    assert person.session is None
    assert page.focused == ["code"]
    answer = await person.client.get(CODE)
    assert 'autocomplete="one-time-code" inputmode="numeric"' in answer.text
    assert PASSWORD not in answer.text + str(person.client.cookies)
    page = await person.refused(CODE, 401, code=wrong_code_of(secret))
    assert page.texts["code-error"] == "The code is wrong."
    assert page.form.fields["code"] == ""
    page = await person.refused(CODE, 400)
    assert page.texts["code-error"] == "Please fill this in."
    code = code_of(secret)
    await person.done(f"{CODE}?next=%2Faccount%2Fsessions", "/account/sessions", code=code)
    assert not ticket_of(person)
    assert await methods(app) == ["pwd otp mfa", "pwd otp mfa"]
    other = Person(app)
    await prove_password(other)
    await other.refused(CODE, 401, code=code)


async def test_a_recovery_code_does_it_too(app: Litestar, person: Person, alice: AsyncClient) -> None:
    _, codes = await enrol(app, alice)
    await prove_password(person, "?next=%2Faccount%2Fsessions")
    page = await person.open(f"{CODE}?recovery=1&next=%2Faccount%2Fsessions")
    assert page.texts["h1"] == "Your recovery code"
    await person.done(f"{CODE}?recovery=1&next=%2Faccount%2Fsessions", "/account/sessions", code=codes[0].upper())


@pytest.mark.parametrize("why", ["none", "forged", "old", "another browser's", "another password", "disabled"])
async def test_without_a_ticket_that_is_good_one_begins_again(
    app: Litestar, person: Person, secret: str, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """For the page and for the form; no code is spent or counted."""
    page = await prove_password(person)
    ticket = ticket_of(person)
    user_id, expires, signature = ticket.split(".")
    if why == "none":
        person.client.cookies.delete("sign-in")
    elif why == "forged":
        person.client.cookies.set("sign-in", f"{user_id}.{int(expires) + 1}.{signature}", domain="test.local")
    elif why == "old":
        later = time() + 5 * 60 + 1
        monkeypatch.setattr(two_steps, "time", lambda: later)
    elif why == "another browser's":
        person = Person(app)
        page = await person.open("/account/sign-in")
        person.client.cookies.set("sign-in", ticket)
    elif why == "another password":
        await execute(app, update(User).values(hashed_password=User.hashed_password + "x"))
    else:
        await execute(app, update(User).values(is_active=False))
    for answer in (
        await person.client.get(CODE),
        await person.client.post(CODE, data=page.form.fields | {"code": code_of(secret)}),
    ):
        assert (answer.status_code, answer.headers["Location"]) == (303, "/account/sign-in?done=sign-in-again")
    assert person.session is None


async def test_wrong_codes_are_counted_as_by_the_api(
    app: Litestar, person: Person, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten, the right one is refused, too, and so is the password's page."""
    stop_clock(monkeypatch)
    page = await prove_password(person)
    for _ in range(10):
        data = page.form.fields | {"code": wrong_code_of(secret)}
        assert (await person.client.post(CODE, data=data)).status_code == 401
    page = await person.refused(CODE, 429, code=code_of(secret))
    assert "Too many attempts" in page.texts["problem"]
    answer = await Person(app).send("/account/sign-in", username="alice", password=PASSWORD)
    assert answer.status_code == 429


async def test_a_fresh_sign_in_asks_for_both(app: Litestar, person: Person, secret: str) -> None:
    """The password alone doesn't do it; with the code one is where one wanted to go, in a new session."""
    await prove_password(person)
    await person.done(CODE, "/account", code=code_of(secret))
    await forget_steps(app)
    old = person.session
    await age(app, 11)
    answer = await person.client.get("/account/delete")
    path = answer.headers["Location"]
    assert path == "/account/confirm?next=%2Faccount%2Fdelete"
    where = f"{CODE}?next=%2Faccount%2Fdelete"
    await person.done(path, where, password=PASSWORD)
    assert (await person.client.get("/account/delete")).headers["Location"] == path
    await person.done(where, "/account/delete", code=code_of(secret))
    assert person.session not in {None, old}


def key_on(page: Page) -> str:
    """Return the key that a page shows for the app."""
    return page.texts["group"].replace(" ", "")


async def add_app(person: Person, path: str = f"{SECURITY}/app") -> tuple[str, Page]:
    """Add an authenticator app; return its secret, and the page with the recovery codes."""
    answer = await person.send(path, action="begin")
    assert answer.status_code == 200
    assert "<svg viewBox=" in answer.text
    page = Page(answer)
    secret = key_on(page)
    form = page.form.fields
    answer = await person.client.post(f"{SECURITY}/app", data=form | {"code": wrong_code_of(secret)})
    assert (answer.status_code, Page(answer).texts["code-error"]) == (403, "The code is wrong.")
    assert "<svg" not in answer.text
    answer = await person.client.post(f"{SECURITY}/app", data=form | {"code": code_of(secret)})
    assert answer.status_code == 200, answer.text
    return secret, Page(answer)


async def test_an_app_is_added_its_codes_replaced_and_removed(app: Litestar, member: Person) -> None:
    """Each in a fresh session; what is shown is shown once, and every other session ends."""
    other = Person(app)
    await other.sign_in("alice", PASSWORD)
    assert "Add an app" in (await member.open(SECURITY)).texts["button"]
    _, page = await add_app(member)
    codes = page.texts["code"].split()
    assert len(codes) == 10
    assert (await other.client.get("/account")).status_code == 303
    assert await methods(app) == ["pwd otp mfa"]
    assert (await member.client.get(f"{SECURITY}/app")).headers["Location"] == SECURITY
    answer = await member.send(f"{SECURITY}/codes")
    assert answer.status_code == 200
    new = Page(answer).texts["code"].split()
    assert not set(new) & set(codes)
    await prove_password(other)
    await other.refused(CODE, 401, code=codes[0])
    await other.done(CODE, "/account", code=new[0])
    assert "9 left, for when the app is lost" in (await member.open(SECURITY)).texts["soft small"]
    await age(app, 11)
    assert (await member.client.get(f"{SECURITY}/codes")).headers["Location"].startswith("/account/confirm?")
    where = (await member.client.get(f"{SECURITY}/remove")).headers["Location"]
    assert where == "/account/confirm?next=%2Faccount%2Fsecurity%2Fremove"
    await member.done(where, f"{CODE}?next=%2Faccount%2Fsecurity%2Fremove", password=PASSWORD)
    await member.done(f"{CODE}?next=%2Faccount%2Fsecurity%2Fremove", f"{SECURITY}/remove", code=new[1])
    await member.done(f"{SECURITY}/remove", f"{SECURITY}?done=app-removed")
    await Person(app).sign_in("alice", PASSWORD)


async def test_a_code_without_a_secret_begins_again(member: Person) -> None:
    form = (await member.open(f"{SECURITY}/app")).form.fields
    answer = await member.client.post(f"{SECURITY}/app", data=form | {"action": "confirm", "code": "123456"})
    page = Page(answer)
    assert (answer.status_code, page.texts["problem"]) == (409, "No authenticator app waits for its first code.")
    assert page.texts["button"] == "Start again"


async def test_pages_ask_for_a_second_factor_where_the_api_does(sqlite_url: str) -> None:
    """SECOND_FACTOR=all leaves what is needed to enrol, and to sign out; all else leads there, and back afterwards."""
    async with visiting(sqlite_url, second_factor="all") as (app, person):
        await add_user(app, "alice")
        await person.sign_in("alice", PASSWORD)
        for path in ("/account", "/account/profile", "/account/sessions", SECURITY, f"{SECURITY}/app"):
            await person.open(path)
        for path in ("/account/password", "/account/tokens", "/account/history?cursor=x"):
            answer = await person.client.get(path)
            assert (answer.status_code, answer.headers["Location"]) == (303, f"{SECURITY}?{urlencode({'next': path})}")
        form = (await person.open("/account")).forms[0].fields
        answer = await person.client.post("/account/tokens", data=form)
        where = f"{SECURITY}?next=%2Faccount%2Ftokens"
        assert (answer.status_code, answer.headers["Location"]) == (303, where)
        page = await person.open(where)
        assert page.texts["reminder"] == "A second factor is needed here. Add an app or a passkey, and go on."
        (app_path,) = (address for address in page.addresses if "security/app" in address)
        _, page = await add_app(person, app_path.removeprefix(".."))
        assert "../../account/tokens" in page.addresses
        await person.open("/account/tokens")
        assert "reminder" not in (await person.open(SECURITY)).texts


async def test_whoever_has_a_passkey_proves_it_where_a_second_factor_is_needed(sqlite_url: str) -> None:
    """Below that, no page adds another one, and an application gets nothing, but is told so if it wants no question."""
    async with visiting(sqlite_url, second_factor="all") as (app, person):
        user = await add_user(app, "alice")
        device = Authenticator()
        await device.add_to(client_of(app, **bearer(await open_session(app, user.id))))
        await person.sign_in("alice", PASSWORD)
        query = urlencode(parameters(await add_client(app, first_party=True)))
        for path in (f"{SECURITY}/passkey/new", f"/authorize?{query}"):
            answer = await person.client.get(path)
            assert (answer.status_code, answer.headers["Location"]) == (303, f"{SECURITY}?{urlencode({'next': path})}")
        answer = await person.client.get(f"/authorize?{query}&prompt=none")
        assert "error=interaction_required" in answer.headers["Location"]
        page = await person.open(f"{SECURITY}?next=%2Faccount%2Ftokens")
        assert page.texts["reminder"].startswith("A second factor is needed here. You have one:")
        where = f"{CONFIRM}?next=/account/tokens"
        assert f"..{where}" in page.addresses
        form, options = await options_of(person, where)
        data = form | {"credential": json.dumps(device.get(options))}
        answer = await person.client.post(f"{CONFIRM}/passkey", data=data)
        assert answer.headers["Location"] == "/account/tokens"
        await person.open("/account/tokens")


async def test_without_the_feature_there_is_no_page(sqlite_url: str) -> None:
    settings = Settings(secret_key=SECRET, database_url=sqlite_url, jobs_in_process=False)
    app = create_app(settings, [feature for feature in FEATURES if "factors" not in feature.__module__])
    async with connect_to(app):
        person = Person(app)
        await add_user(app, "alice")
        page = await person.sign_in("alice", PASSWORD)
        assert not [address for address in page.addresses if "security" in address]
        await person.open(SECURITY, 404)
