"""A request may do what its caller may do when it is done, however slowly its body arrives."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import cast

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPReceiveMessage, HTTPScope, Message
from sqlalchemy import delete, select, update

from app.auth.models import LoginSession
from app.http.access import is_public
from app.items.models import Item
from app.main import create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import execute, fetch
from tests.factories import PASSWORD, SECRET, People, add_user, create_item

BODIES = {
    ("POST", "/items"): {"title": "Umbrella"},
    ("PATCH", "/items/{item_id}"): {"title": "Parasol"},
    ("PATCH", "/users/me"): {"username": "mallory"},
    ("PUT", "/users/me/password"): {"current_password": PASSWORD, "new_password": "another pass phrase of 7 words"},
    ("PATCH", "/users/{user_id}"): {"is_superuser": True},
    ("POST", "/users/me/tokens"): {"name": "Backup", "scopes": ["items:read"]},
    ("POST", "/users/me/totp/confirm"): {"code": "123456"},
    ("POST", "/users/me/passkeys"): {"name": "Telephone", "credential": {}},
    ("PATCH", "/users/me/passkeys/{passkey_id}"): {"name": "Telephone"},
    ("POST", "/users/me/reauthentication"): {"password": PASSWORD},
    ("POST", "/clients"): {"name": "Counter", "scopes": [], "redirect_uris": ["https://app.example.com/"]},
    ("PATCH", "/clients/{application_id}"): {"name": "Counter"},
}
"""A body for each route that needs a caller and takes one."""


class SlowBody:
    """A body whose last byte waits."""

    def __init__(self, body: object) -> None:
        self.content = json.dumps(body).encode()
        self.begun, self.rest = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content[:1]
        self.begun.set()
        await self.rest.wait()
        yield self.content[1:]


async def send_slowly(client: AsyncClient, method: str, path: str, body: SlowBody) -> "asyncio.Task[Response]":
    """Send the beginning of a request, and return what waits for its answer."""
    headers = {"Content-Type": "application/json"}
    answer = asyncio.create_task(client.request(method, path, content=body, headers=headers))
    await asyncio.wait_for(body.begun.wait(), 10)
    return answer


def test_every_route_with_a_caller_and_a_body_is_tried(sqlite_url: str) -> None:
    app = create_app(Settings(secret_key=SECRET, database_url=sqlite_url))
    handlers = {
        (method, route.path_format): handler
        for route in app.routes
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items()
        if isinstance(handler, HTTPRouteHandler)
    }
    needed = {key for key, handler in handlers.items() if handler.parsed_data_field and not is_public(handler)}
    assert needed == set(BODIES)


@pytest.mark.parametrize(("method", "path"), BODIES)
async def test_a_session_that_ends_while_the_body_is_on_its_way_does_nothing(
    app: Litestar, people: People, method: str, path: str
) -> None:
    alice = await people.sign_in("alice", is_superuser=True)
    item = (await create_item(alice)).json()["id"]
    bob = await add_user(app, "bob")
    body = SlowBody(BODIES[method, path])
    answer = await send_slowly(
        alice, method, path.format(item_id=item, user_id=bob.id, passkey_id=1, application_id=1), body
    )
    await execute(app, delete(LoginSession))
    body.rest.set()
    assert (await answer).status_code == 401
    assert [row.title for row in await fetch(app, select(Item.title))] == ["Umbrella"]
    users = await fetch(app, select(User.username, User.is_superuser).order_by(User.id))
    assert [tuple(row) for row in users] == [("alice", True), ("bob", False)]


async def test_a_superuser_who_is_demoted_while_the_body_is_on_its_way_promotes_nobody(
    app: Litestar, people: People
) -> None:
    await people.sign_in("root", is_superuser=True)
    eve = await people.sign_in("eve", is_superuser=True)
    bob = await add_user(app, "bob")
    body = SlowBody({"is_superuser": True})
    answer = await send_slowly(eve, "PATCH", f"/users/{bob.id}", body)
    await execute(app, update(User).where(User.username == "eve").values(is_superuser=False))
    body.rest.set()
    assert (await answer).status_code == 403
    (row,) = await fetch(app, select(User.is_superuser).where(User.id == bob.id))
    assert row.is_superuser is False


async def test_a_stranger_is_answered_before_the_body_is_read(app: Litestar, client: AsyncClient) -> None:
    """Nothing of a body is asked for until the answer has been sent."""
    answered = asyncio.Event()
    statuses: list[int] = []

    async def receive() -> HTTPReceiveMessage:
        await asyncio.wait_for(answered.wait(), 10)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif message["type"] == "http.response.body" and not message["more_body"]:
            answered.set()

    headers = {"Authorization": "Bearer forged", "Transfer-Encoding": "chunked"}
    request = client.build_request("POST", "/items/", headers=headers)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/items/",
        "raw_path": b"/items/",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("test", 80),
        "client": ("127.0.0.1", 50000),
        "extensions": {},
    }
    await app(cast("HTTPScope", scope), receive, send)
    assert statuses == [401]
