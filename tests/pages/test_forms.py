"""The protection of forms: where they may come from, and their tokens."""

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import select

from app.auth.models import LoginSession
from app.pages.forms import FormTokens
from app.settings import Settings
from tests.auth.oauth import fetch
from tests.factories import PASSWORD, add_user, client_of
from tests.pages.person import Page, Person
from tests.problems import assert_problem


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database, which is enough here."""
    return sqlite_url


def paths_of_forms(app: Litestar) -> list[str]:
    """Return the paths below /account that take a POST."""
    routes = [route for route in app.routes if isinstance(route, HTTPRoute) and "POST" in route.methods]
    return [route.path_format for route in routes if route.path_format.startswith("/account")]


async def test_no_form_is_taken_without_its_token(app: Litestar, member: Person) -> None:
    """A form without one, with a made-up one and with another browser's is refused, signed in or not."""
    strangers = (await Person(app).open("/account/sign-in")).form.fields["form_token"]
    paths = paths_of_forms(app)
    assert len(paths) >= 12
    for path in paths:
        for token in ({}, {"form_token": "x"}, {"form_token": "ä"}, {"form_token": strangers}):
            answer = await member.client.post(path, data={"session_id": "others", **token})
            assert answer.status_code == 403, path
            assert "be used any more" in Page(answer).texts["lead"]
    await member.open("/account")


async def test_a_form_of_one_sign_in_is_not_for_another(app: Litestar, member: Person) -> None:
    """In two tabs: somebody else signs in in the second one, and the first one's form doesn't touch their account."""
    await add_user(app, "bob")
    form = (await member.open("/account/delete")).form.fields
    entrance = (await Person(app).open("/account/sign-in")).form.fields
    member.client.cookies.delete("session")
    await member.sign_in("bob", PASSWORD)
    assert (await member.client.post("/account/delete", data=form)).status_code == 403
    assert (await member.client.post("/account/sign-in", data=entrance)).status_code == 403


async def test_two_tabs_sign_in_one_after_the_other(app: Litestar, person: Person) -> None:
    """The form that was opened before still works; of the two sessions one is left."""
    await add_user(app, "alice")
    first = (await person.open("/account/sign-in")).form.fields
    await person.sign_in("alice", PASSWORD)
    answer = await person.client.post("/account/sign-in", data=first | {"username": "alice", "password": PASSWORD})
    assert answer.status_code == 303
    assert len(await fetch(app, select(LoginSession.id))) == 1


async def test_a_form_of_an_ended_session_leads_to_sign_in_and_back(app: Litestar, member: Person) -> None:
    form = (await member.open("/account/profile")).form.fields
    other = Person(app)
    await other.sign_in("alice", PASSWORD)
    await other.done("/account/sessions", "/account/sessions?done=sessions-ended", session_id="others")
    answer = await member.client.post("/account/profile", data=form | {"username": "renamed"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/sign-in?next=%2Faccount%2Fprofile")


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Origin": "http://test"}, True),
        ({"Origin": "https://test", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "null"}, False),
        ({"Origin": "http://test.evil.example"}, False),
        ({"Origin": "http://127.0.0.1:8001"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://test", "Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
    ],
)
async def test_a_form_comes_from_this_site_alone(person: Person, headers: dict[str, str], *, taken: bool) -> None:
    form = (await person.open("/account/forgot-password")).form.fields | {"email": "alice@example.org"}
    answer = await person.client.post("/account/forgot-password", data=form, headers=headers)
    assert answer.status_code == (303 if taken else 403)


async def test_what_is_no_form_is_refused_as_by_the_api(person: Person) -> None:
    """Another media type is 415, a form over 16 KiB 413, one that repeats a field 400: as pages, to a browser."""
    client = person.client
    assert (await client.post("/account/sign-in", json={})).status_code == 415
    assert (await client.post("/account/sign-in", data={"username": "x" * 17000})).status_code == 413
    answer = await client.post(
        "/account/sign-in",
        content=b"username=a&username=b",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (answer.status_code, Page(answer).texts["problem"]) == (400, "A parameter is repeated.")


async def test_errors_are_pages_for_browsers_and_problems_elsewhere(app: Litestar, person: Person) -> None:
    page = await person.open("/account/nothing", 404)
    assert page.texts["lead"] == "There is nothing at this path."
    answer = await person.client.get("/account/sign-out")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "OPTIONS, POST")
    assert "text/html" in answer.headers["Content-Type"]
    assert_problem(await person.client.get("/accounts"), 404, "There is nothing at this path")
    assert_problem(await client_of(app).get("/account/nothing"), 404, "There is nothing at this path")


def test_a_token_is_for_one_subject_and_never_twice_the_same(settings: Settings) -> None:
    tokens = FormTokens(settings.secret_key)
    token = tokens.issue("session 1")
    assert tokens.is_valid(token, "session 1")
    assert not tokens.is_valid(token, "session 2")
    assert not tokens.is_valid(token[:-4], "session 1")
    assert tokens.issue("session 1") != token
    assert not FormTokens("another key, as long as that").is_valid(token, "session 1")
