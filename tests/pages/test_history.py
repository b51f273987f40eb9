"""The page of what happened to an account."""

from datetime import timedelta

import pytest
from litestar import Litestar
from sqlalchemy import delete, insert, select

from app.database.models import now
from app.history.models import StoredEvent
from app.main import FEATURES, create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import execute, fetch
from tests.factories import PASSWORD, SECRET, add_user, connect_to
from tests.pages.person import Page, Person

HISTORY = "/account/history"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database, which is enough here: the service is tested on both."""
    return sqlite_url


async def id_of(app: Litestar, username: str) -> int:
    """Return the id of a user."""
    ((user_id,),) = await fetch(app, select(User.id).where(User.username == username))
    return user_id


async def sentences(person: Person, path: str = HISTORY) -> list[str]:
    """Return what stands in the list, by its first lines."""
    answer = await person.client.get(path)
    assert answer.status_code == 200
    return [part.partition("</p>")[0] for part in answer.text.split('<p class="name">')[1:]]


async def test_it_tells_a_persons_own_events_in_words(app: Litestar, member: Person) -> None:
    """The newest is first; what is said of details to programs is left out, and others' events aren't there."""
    await add_user(app, "bob")
    await Person(app).sign_in("bob", PASSWORD)
    member.client.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    await member.client.post("/token", data={"username": "alice", "password": "wrong"})
    await member.done("/account/profile", "/account/profile?done=saved", username="alice")
    assert await sentences(member) == ["A login was refused", "A session was opened"]
    page = await member.open(HISTORY)
    assert "Firefox on Linux" in page.texts["span"]
    assert f"{now():%Y}" in page.texts["soft small"]


async def test_a_page_leads_to_the_older_ones(app: Litestar, member: Person) -> None:
    """By a cursor for this list and person alone; what happens meanwhile moves nothing."""
    user_id = await id_of(app, "alice")
    await execute(app, delete(StoredEvent))
    moment = now()
    rows = [
        {"type": "login_failed", "user_id": user_id, "details": {}, "created_at": moment - timedelta(minutes=minute)}
        for minute in range(60)
    ]
    await execute(app, insert(StoredEvent).values(rows))
    counts, page, path = [], await member.open(HISTORY), HISTORY
    while path:
        counts.append(len(await sentences(member, path)))
        page = await member.open(path)
        path = next((address.removeprefix("..") for address in page.addresses if "cursor=" in address), "")
        await execute(app, insert(StoredEvent).values(rows[0]))
    assert counts == [25, 25, 10]
    assert "../account/history" in page.addresses
    page = await member.open(f"{HISTORY}?cursor=forged", 422)
    assert page.texts["h1"] == "Unprocessable Content"


async def test_whoever_else_did_it_is_named_as_such(app: Litestar, member: Person) -> None:
    root = await add_user(app, "root", is_superuser=True)
    user_id = await id_of(app, "alice")
    values = {"type": "rights_changed", "user_id": user_id, "actor_id": root.id, "details": {}, "created_at": now()}
    await execute(app, insert(StoredEvent).values(values))
    assert (await sentences(member))[0] == "The account was given other rights, by a superuser"
    assert "By somebody who runs this service" in (await member.open(HISTORY)).texts["soft small"]


async def test_every_type_has_a_sentence_for_people(app: Litestar, member: Person) -> None:
    """None has a word of code in it."""
    types = app.state.site.event_types
    user_id = await id_of(app, "alice")
    rows = [{"type": name, "user_id": user_id, "details": {}, "created_at": now()} for name in types]
    for some in [rows[start : start + 25] for start in range(0, len(rows), 25)]:
        await execute(app, delete(StoredEvent))
        await execute(app, insert(StoredEvent).values(some))
        found = await sentences(member)
        assert len(found) == len(some)
        assert not [text for text in found if "`" in text or "_" in text]


async def test_without_the_feature_there_is_no_page(sqlite_url: str) -> None:
    settings = Settings(secret_key=SECRET, database_url=sqlite_url, jobs_in_process=False)
    app = create_app(settings, [feature for feature in FEATURES if "history" not in feature.__module__])
    async with connect_to(app):
        await add_user(app, "alice")
        person = Person(app)
        page: Page = await person.sign_in("alice", PASSWORD)
        assert not [address for address in page.addresses if "history" in address]
        await person.open(HISTORY, 404)
