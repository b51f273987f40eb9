"""Passkeys on pages: added, signed in by, proved by and removed, and what is refused."""

import json

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.factors.models import Passkey
from app.factors.passkeys.service import MAX_PASSKEYS
from app.users.models import User
from tests.auth.oauth import execute, fetch
from tests.auth.test_fresh_sign_in import age
from tests.factories import PASSWORD, add_user, on_sqlite
from tests.factors.authenticator import Authenticator, Json, add_passkeys, request_options
from tests.factors.totp import enrol
from tests.pages.person import Page, Person

SIGN_IN = "/account/sign-in"
CONFIRM = "/account/confirm"
SECURITY = "/account/security"
NEW = f"{SECURITY}/passkey/new"
REFUSED = "The passkey could not be verified, or it took too long. Try it again."


async def options_of(person: Person, path: str) -> tuple[dict[str, str], Json]:
    """Open a page, ask for options as its script does, and return the form's fields with them."""
    form = next(form for form in (await person.open(path)).forms if "credential" in form.fields)
    answer = await person.client.post(f"{path.partition('?')[0]}/options", data=form.fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return form.fields, answer.json()


async def add(person: Person, device: Authenticator, name: str = "Telephone") -> Response:
    """Add a passkey of a device, and return the answer."""
    form, options = await options_of(person, NEW)
    data = form | {"name": name, "credential": json.dumps(device.create(options))}
    return await person.client.post(NEW, data=data)


async def sign_in(person: Person, credential: object, query: str = "") -> Response:
    """Sign in by what a device has signed, and return the answer."""
    form = next(form for form in (await person.open(SIGN_IN + query)).forms if "credential" in form.fields)
    assert form.action.endswith(f"{SIGN_IN}/passkey")
    return await person.client.post(f"{SIGN_IN}/passkey", data=form.fields | {"credential": json.dumps(credential)})


async def methods(app: Litestar) -> list[str]:
    """Return how each session was signed in."""
    return sorted(row.amr for row in await fetch(app, select(LoginSession.amr)))


async def test_from_the_first_passkey_to_its_removal(app: Litestar, member: Person) -> None:
    """A sign-in by it leads on, and needs no code; to remove it, one proves by it who one is."""
    device, other = Authenticator(), Person(app)
    answer = await add(member, device)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{SECURITY}?done=passkey-added")
    page = await member.open(SECURITY)
    assert "Telephone" in page.texts["name"]
    assert "not used yet" in page.texts["soft small"]
    path = next(address for address in page.addresses if "passkey_id=" in address).removeprefix("..")
    answer = await sign_in(other, device.get(await request_options(other.client)), "?next=%2Faccount%2Fsessions")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/sessions")
    assert await methods(app) == ["pop user mfa", "pop user mfa"]
    await member.done(path, f"{SECURITY}?done=saved", name="Laptop")
    assert "Laptop" in (await other.open(SECURITY)).texts["name"]
    assert "last used on" in (await other.open(SECURITY)).texts["soft small"]

    await age(app, 11)
    remove = path.replace("passkey?", "passkey/remove?")
    where = (await other.client.get(remove)).headers["Location"]
    session = other.session
    form, options = await options_of(other, where)
    data = form | {"credential": json.dumps(device.get(options))}
    answer = await other.client.post(f"{CONFIRM}/passkey", data=data)
    assert (answer.status_code, answer.headers["Location"]) == (303, remove)
    assert other.session != session
    assert len(await fetch(app, select(LoginSession.id))) == 2
    await other.done(remove, f"{SECURITY}?done=passkey-removed")
    assert await methods(app) == ["pop user", "pop user"]
    for gone in (path, remove):
        assert (await other.open(gone, 404)).texts["lead"] == "Passkey not found."


@pytest.mark.parametrize("why", ["stranger", "session", "used", "disabled", "junk", "nothing"])
async def test_what_signs_nobody_in_is_told_beside_the_button(app: Litestar, member: Person, why: str) -> None:
    """The status is the API's, and the form can be sent again."""
    device, person = Authenticator(), Person(app)
    await add(member, device)
    options = await request_options(person.client)
    credential: object = device.get(options)
    match why:
        case "stranger":
            credential = Authenticator().get(options)
        case "session":
            credential = device.get((await options_of(member, f"{CONFIRM}"))[1])
        case "used":
            await sign_in(Person(app), credential)
        case "disabled":
            await execute(app, update(User).values(is_active=False))
        case "junk":
            credential = {"id": 1}
        case "nothing":
            credential = ""
    answer = await sign_in(person, credential, "?next=%2Faccount%2Fsessions")
    page = Page(answer)
    if why in {"junk", "nothing"}:
        assert (answer.status_code, page.texts["credential-error"][:10]) == (400, "Credential")
    else:
        assert (answer.status_code, page.texts["credential-error"]) == (401, REFUSED)
    assert person.session is None
    await execute(app, update(User).values(is_active=True))
    fields = page.forms[-1].fields | {"credential": json.dumps(device.get(await request_options(person.client)))}
    answer = await person.client.post(f"{SIGN_IN}/passkey", data=fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/sessions")


@on_sqlite
async def test_a_proof_is_of_the_sessions_own_user(app: Litestar, member: Person) -> None:
    device, bob, strangers = Authenticator(), Person(app), Authenticator()
    await add(member, device)
    await add_user(app, "bob")
    await bob.sign_in("bob", PASSWORD)
    await add(bob, strangers)
    await age(app, 11)
    form, options = await options_of(member, f"{CONFIRM}?next=%2Faccount%2Fdelete")
    for credential in (strangers.get(options), device.get(await request_options(member.client))):
        answer = await member.client.post(f"{CONFIRM}/passkey", data=form | {"credential": json.dumps(credential)})
        assert (answer.status_code, Page(answer).texts["credential-error"]) == (403, REFUSED)
    assert (await member.client.get("/account/delete")).status_code == 303


async def test_a_new_passkey_needs_a_fresh_sign_in_and_a_challenge_for_it(app: Litestar, member: Person) -> None:
    """Without the form's token, nothing is taken; the name is checked as the API checks it."""
    device = Authenticator()
    form, options = await options_of(member, NEW)
    created = device.create(options)
    wrong = device.create(options | {"challenge": (await request_options(member.client))["challenge"]})
    answer = await member.client.post(NEW, data=form | {"credential": json.dumps(wrong)})
    assert (answer.status_code, Page(answer).texts["credential-error"]) == (422, REFUSED)
    data = form | {"credential": json.dumps(created)}
    answer = await member.client.post(NEW, data=data | {"name": "x" * 101})
    assert (answer.status_code, Page(answer).texts["name-error"]) == (422, "It must have 1 to 100 characters.")
    for path in (NEW, f"{NEW}/options"):
        assert (await member.client.post(path, data=data | {"form_token": ""})).status_code == 403
    await age(app, 11)
    for path in (NEW, f"{NEW}/options", f"{SECURITY}/passkey/remove"):
        answer = await member.client.post(path, data=data)
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith(CONFIRM)
    assert await fetch(app, select(Passkey.id)) == []


@on_sqlite
async def test_of_passkeys_there_are_twenty(app: Litestar, member: Person) -> None:
    """The page says so, and has no button for another; a page that was opened before is told."""
    form = (await member.open(NEW)).forms[-1].fields
    (user,) = await fetch(app, select(User.id))
    await add_passkeys(app, user.id, MAX_PASSKEYS)
    assert "You have 20, which is the most." in (await member.open(SECURITY)).texts["soft small"]
    assert (await member.client.get(NEW)).headers["Location"] == SECURITY
    answer = await member.client.post(f"{NEW}/options", data=form, headers={"Accept": "*/*"})
    assert (answer.status_code, answer.json()["detail"]) == (409, "Too many passkeys")


@on_sqlite
async def test_whoever_has_a_passkey_may_use_it_instead_of_a_code(
    app: Litestar, person: Person, alice: AsyncClient
) -> None:
    """Nobody else is asked for one, once the password was right; the address of a form leads to its page."""
    await enrol(app, alice)
    code = f"{SIGN_IN}/code?next=%2Faccount%2Fsessions"
    page = await person.done(f"{SIGN_IN}?next=%2Faccount%2Fsessions", code, username="alice", password=PASSWORD)
    assert "credential" not in {name for form in page.forms for name in form.fields}
    device = Authenticator()
    await device.add_to(alice)
    form = (await person.open(code)).forms[-1]
    assert form.action.endswith(f"{SIGN_IN}/passkey")
    data = form.fields | {"credential": json.dumps(device.get(await request_options(person.client)))}
    answer = await person.client.post(f"{SIGN_IN}/passkey", data=data)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/sessions")
    assert not person.client.cookies.get("sign-in")
    for page_path in (SIGN_IN, CONFIRM):
        answer = await person.client.get(f"{page_path}/passkey?next=%2Faccount%2Fsessions")
        assert answer.headers["Location"] == f"{page_path}?next=%2Faccount%2Fsessions"
