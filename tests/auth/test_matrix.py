"""The matrix of rights: every operation of the document, called in every role about Alice's account and items."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import Pair, bearer, execute, fetch, open_session
from tests.factories import PASSWORD, add_user, create_item
from tests.outbox import deliver, token_in

Operation = dict[str, Any]
ROLES = ["nobody", "owner", "stranger", "superuser", "disabled"]
METHODS = {"get", "put", "post", "patch", "delete"}

# What an operation takes, where the document's own example isn't right for Alice.
BODIES: dict[str, dict[str, str]] = {
    "create_user": {"username": "carol", "email": "carol@example.org", "password": PASSWORD},
    "update_me": {"username": "renamed"},
    "change_password": {"current_password": PASSWORD, "new_password": "a new and better one"},
    "request_password_reset": {"email": "alice@example.org"},
    "login": {"username": "alice", "password": PASSWORD},
    "revoke": {"token": "unknown"},
}
# What somebody else's is answered with; a superuser has rights over accounts, and no others.
OF_ANOTHER = {
    "user_id": {"stranger": 403, "superuser": 200},
    "item_id": {"stranger": 403, "superuser": 403},
    "session_id": {"stranger": 404, "superuser": 404},
}
# What even the owner of an account may not do to it by its id.
SUPERUSERS = {"list_users", "update_user", "delete_user"}


class World:
    """A service in which Alice owns one of everything, and the others have nothing to do with it."""

    def __init__(self, app: Litestar, client: AsyncClient, settings: Settings) -> None:
        self.app, self.client, self.settings = app, client, settings
        self.pairs: dict[str, Pair] = {}
        self.users: dict[str, int] = {}
        self.ids: dict[str, int] = {}
        self.bodies = dict(BODIES)

    async def make(self) -> None:
        """Add the users, their logins, and everything that is Alice's."""
        alice = await add_user(self.app, "alice")
        bob = await add_user(self.app, "bob")
        root, _, dora = [await add_user(self.app, name, is_superuser=True) for name in ("root", "second", "dora")]
        self.users = {"owner": alice.id, "stranger": bob.id, "superuser": root.id}
        self.pairs["disabled"] = await open_session(self.app, dora.id)
        await execute(self.app, update(User).where(User.id == dora.id).values(is_active=False))
        await self.make_what_is_hers(alice)

    async def make_what_is_hers(self, alice: User) -> None:
        """Make one of everything that a path may name, and the tokens that are mailed."""
        other = await open_session(self.app, alice.id, device="other")
        headers = bearer(other)
        (row,) = await fetch(self.app, select(LoginSession.id).where(LoginSession.device == "other"))
        async with AsyncClient(transport=self.client._transport, base_url="http://test", headers=headers) as hers:  # noqa: SLF001 - httpx shows it nowhere else
            item = (await create_item(hers)).json()
            await hers.post("/email-verification")
            await hers.post("/password-reset", json={"email": alice.email})
        self.ids = {"user_id": alice.id, "item_id": item["id"], "session_id": row.id}
        for mail in await deliver(self.app, self.settings):
            if "#token=" in mail.get_content():
                path = re.search(r"/([a-z-]+)/confirm#", mail.get_content())
                assert path
                extra = {"new_password": PASSWORD} if path[1] == "password-reset" else {}
                name = "reset_password" if extra else "verify_email"
                self.bodies[name] = {"token": token_in(mail), **extra}

    async def call(self, role: str, method: str, path: str, operation: Operation, document: Operation) -> Response:
        """Call an operation about Alice's, in a role."""
        if role in self.users:  # Some operations end the session that they are called in.
            self.pairs[role] = await open_session(self.app, self.users[role])
        headers = bearer(self.pairs[role]) if role in self.pairs else {}
        content = operation.get("requestBody", {}).get("content", {})
        body = self.bodies.get(operation["operationId"]) or example(content, document)
        form = "application/x-www-form-urlencoded" in content
        sent: dict[str, Any] = {} if not content else {"data" if form else "json": body}
        return await self.client.request(method, path.format(**self.ids), headers=headers, **sent)


def example(content: Mapping[str, Any], document: Operation) -> dict[str, Any]:
    """Return a body of the examples of its fields, without the fields that have none."""
    for media in content.values():
        schema = document["components"]["schemas"][media["schema"]["$ref"].rpartition("/")[2]]
        examples = {name: field.get("examples", []) for name, field in schema["properties"].items()}
        return {name: values[0] for name, values in examples.items() if values}
    return {}


def operations(document: Operation) -> Iterator[tuple[str, str, Operation]]:
    """Yield the method, the path and the operation."""
    for path, methods in document["paths"].items():
        for method in methods.keys() & METHODS:
            yield method, path, methods[method]


def expected(role: str, path: str, operation: Operation) -> int:
    """Return the expected status, where 200 stands for whatever success the document has."""
    if operation.get("security") == []:
        return 200
    if role in {"nobody", "disabled"}:
        return 401
    if operation["operationId"] in SUPERUSERS:
        return 200 if role == "superuser" else 403
    named = re.findall(r"\{(\w+)\}", path)
    return 200 if role == "owner" or not named else OF_ANOTHER[named[-1]][role]


@pytest.fixture
async def world(app: Litestar, client: AsyncClient, settings: Settings) -> World:
    """A world that nobody has changed yet."""
    world = World(app, client, settings)
    await world.make()
    return world


@pytest.mark.parametrize("role", ROLES)
async def test_every_operation_answers_every_role_as_it_should(world: World, role: str) -> None:
    """The status is also one that the document has for the operation."""
    document = (await world.client.get("/openapi.json")).json()
    assert len(list(operations(document))) > 20
    wrong = []
    for method, path, operation in in_order(document):
        answer = await world.call(role, method, path, operation, document)
        status = expected(role, path, operation)
        fine = answer.is_success or answer.status_code == 304 if status == 200 else answer.status_code == status
        declared = str(answer.status_code) in operation["responses"]
        if not (fine and declared):
            wrong.append(f"{method} {path}: {answer.status_code} for {status}, declared: {declared}, {answer.text}")
        if status == 401:
            bare = answer.headers["www-authenticate"] == "Bearer"
            assert bare == (role == "nobody")
    assert wrong == []


def in_order(document: Operation) -> list[tuple[str, str, Operation]]:
    """Return all operations, with those last that end what the others need."""
    rank = {
        "end_session": 1,
        "end_other_sessions": 2,
        "reset_password": 3,
        "change_password": 4,
        "delete_item": 5,
        "delete_user": 6,
        "delete_me": 7,
    }
    return sorted(operations(document), key=lambda row: (rank.get(row[2]["operationId"], 0), row[1], row[0]))
