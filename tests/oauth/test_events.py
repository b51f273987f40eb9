"""What the security log and the history tell of applications."""

from collections.abc import Iterator

import pytest
from httpx import AsyncClient
from litestar import Litestar

from tests.auth.oauth import bearer, client_from, open_session
from tests.events import ADDRESS, REQUEST, Event, Told
from tests.factories import PASSWORD, add_user
from tests.oauth.flow import CALLBACK, SCOPES, add_client, credentials, exchange, new_code, sign_in


@pytest.fixture
def events(app: Litestar) -> Iterator[Told]:
    """The security events from here on."""
    with Told.by(app) as told:
        yield told


@pytest.fixture
def caller(client: AsyncClient, app: Litestar) -> AsyncClient:
    """A client with an address, and a name for its requests."""
    assert client.base_url.host == "test"  # The application runs.
    return client_from(app, ADDRESS, **{"X-Request-ID": REQUEST})


def event(name: str, **fields: object) -> Event:
    """Return an event of the caller's."""
    return {"event": name, "address": ADDRESS, "request_id": REQUEST, "user_id": None, **fields}


async def drain(events: Told) -> None:
    """Pass over the events so far, which no request has caused."""
    events.read_lines()
    await events.read_rows()


async def test_what_superusers_do_with_applications_is_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """Never a secret, nor a name."""
    root = await sign_in(app, (await add_user(app, "root", is_superuser=True)).id)
    caller.headers.update(bearer(await open_session(app, root.user.id)))
    await drain(events)
    body = {"name": "Counter", "scopes": SCOPES, "redirect_uris": [CALLBACK]}
    created = await caller.post("/clients", json=body)
    path, name = created.headers["location"], created.json()["client_id"]
    (told,) = await events()
    who = {"actor_id": root.user.id, "session_id": told["session_id"], "client_id": name}
    assert told == event("client_created", **who)
    await caller.patch(path, json={"name": "Other"})
    assert await events() == [event("client_changed", **who, changed=["name"])]
    await caller.post(f"{path}/secret")
    assert await events() == [event("client_secret_created", **who)]
    await caller.delete(path)
    assert await events() == [event("client_deleted", **who)]


async def test_what_people_grant_and_end_is_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    """And that a code was used twice."""
    application, alice = await add_client(app), await sign_in(app, (await add_user(app, "alice")).id)
    name = application.client.client_id
    await drain(events)
    code = await new_code(alice, application, scope="items:read")
    (given,) = events.read_lines()
    await drain(events)
    ids = {"user_id": alice.user.id, "actor_id": alice.user.id, "client_id": name}
    expected = event("grant_given", **ids, session_id=alice.user.session_id, scope="items:read")
    assert given | {"request_id": REQUEST} == expected | {"address": "192.0.2.1"}
    await exchange(caller, application, code)
    (login,) = await events()
    session = {"user_id": alice.user.id, "session_id": login["session_id"], "client_id": name}
    assert login == event("login", **session, actor_id=alice.user.id, amr="pwd")
    await exchange(caller, application, code)
    assert await events() == [event("code_reused", **session, actor_id=None)]
    caller.headers.update(bearer(await open_session(app, alice.user.id)))
    await drain(events)
    (grant,) = (await caller.get("/users/me/grants")).json()
    await caller.delete(f"/users/me/grants/{grant['id']}")
    (ended,) = await events()
    who = {"user_id": alice.user.id, "actor_id": alice.user.id, "session_id": ended["session_id"]}
    assert ended == event("grant_ended", **who, application=name)


async def test_a_token_of_an_applications_own_is_told(app: Litestar, caller: AsyncClient, events: Told) -> None:
    scopes = ["users:read"]
    application = await add_client(app, grant_types=["client_credentials"], redirect_uris=[], scopes=scopes)
    await drain(events)
    await caller.post("/token", data={"grant_type": "client_credentials", **credentials(application)})
    name = application.client.client_id
    assert await events() == [event("client_token_created", actor_id=None, client_id=name, scope="users:read")]


async def test_a_login_by_an_application_of_the_operators_own_tells_once_what_it_grants(
    app: Litestar, caller: AsyncClient, events: Told
) -> None:
    application, alice = await add_client(app, first_party=True), await add_user(app, "alice")
    form = {"username": "alice", "password": PASSWORD, "scope": "items:read", **credentials(application)}
    await drain(events)
    assert (await caller.post("/token", data=form)).status_code == 200
    given, login = await events()
    ids = {"user_id": alice.id, "actor_id": alice.id, "client_id": application.client.client_id}
    assert given == event("grant_given", **ids, session_id=login["session_id"], scope="items:read")
    assert (await caller.post("/token", data=form)).status_code == 200
    assert [told["event"] for told in await events()] == ["login"]
