"""The matrix of rights: every operation of the document, called in every role about Alice's account and items."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.factors.models import Passkey
from app.http.access import Right, right_of, token_scopes
from app.settings import Settings
from app.users.models import User
from tests.api_tokens.tokens import add_token
from tests.auth.oauth import Pair, bearer, execute, fetch, open_session
from tests.factories import PASSWORD, add_user, create_item
from tests.factors.authenticator import add_passkeys
from tests.oauth.flow import DEVICE, add_client, credentials, grant_to
from tests.outbox import deliver, token_in
from tests.users.undo import undo_token

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
    "reauthenticate": {"password": "wrong"},
}
# What somebody else's is answered with, by the first id in the path; a superuser has rights over accounts alone.
OF_ANOTHER = {
    "user_id": {"stranger": {403}, "superuser": {200}},
    "item_id": {"stranger": {403}, "superuser": {403}},
    "session_id": {"stranger": {404}, "superuser": {404}},
    "token_id": {"stranger": {404}, "superuser": {404}},
    "passkey_id": {"stranger": {404}, "superuser": {404}},
}
# What whoever may call an operation is answered, where it isn't a success: nobody in the world has a second factor, and
# no example is what a real device would have sent.
ANSWERS = {
    "confirm_totp": {403},
    "replace_recovery_codes": {404},
    "remove_totp": {404},
    "add_passkey": {422},
    "reauthenticate": {403},
}
REFUSED = {"stranger": {403, 404}, "superuser": {403, 404}}


class World:
    """A service in which Alice owns one of everything, and the others have nothing to do with it."""

    def __init__(self, app: Litestar, client: AsyncClient, settings: Settings) -> None:
        self.app, self.client, self.settings = app, client, settings
        self.pairs: dict[str, Pair] = {}
        self.users: dict[str, int] = {}
        self.ids: dict[str, int] = {}
        self.bystander = 0
        self.superusers = {
            handler.handler_name
            for route in app.routes
            if isinstance(route, HTTPRoute)
            for handler in route.route_handlers
            if right_of(handler) is Right.SUPERUSER
        }
        self.bodies = dict(BODIES)

    async def make(self) -> None:
        """Add the users, their logins, and everything that is Alice's."""
        alice = await add_user(self.app, "alice")
        bob = await add_user(self.app, "bob")
        root, second, dora = [await add_user(self.app, name, is_superuser=True) for name in ("root", "second", "dora")]
        self.users = {"owner": alice.id, "stranger": bob.id, "superuser": root.id}
        self.bystander = second.id
        self.pairs["disabled"] = await open_session(self.app, dora.id)
        await execute(self.app, update(User).where(User.id == dora.id).values(is_active=False))
        await self.make_what_is_hers(alice)
        await self.make_the_rest((await self.client.get("/openapi.json")).json())

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
        application = await add_client(self.app)
        self.ids["grant_id"] = await grant_to(self.app, alice.id, application)
        self.bodies["introspect"] = {"token": "unknown", **credentials(application)}
        self.bodies["authorize_device"] = credentials(await add_client(self.app, **DEVICE))
        await add_passkeys(self.app, alice.id, 1)
        (passkey,) = await fetch(self.app, select(Passkey.id))
        self.ids["passkey_id"] = passkey.id
        for mail in await deliver(self.app, self.settings):
            if "#token=" in mail.get_content():
                page = re.search(r"/account/([a-z-]+)#", mail.get_content())
                assert page
                extra = {"new_password": PASSWORD} if page[1] == "reset-password" else {}
                name = "reset_password" if extra else "verify_email"
                self.bodies[name] = {"token": token_in(mail), **extra}
        self.bodies["undo_address_change"] = {"token": await undo_token(self.app, alice.id)}

    async def make_the_rest(self, document: Operation) -> None:
        """Make one of everything else that a path names, by a POST to its collection: Alice's where she may make it."""
        for path in sorted(document["paths"]):
            for name in re.findall(r"\{(\w+)\}", path):
                if name not in self.ids:
                    collection = path.partition(f"/{{{name}}}")[0]
                    creation = document["paths"][collection]["post"]
                    role = "superuser" if creation["operationId"] in self.superusers else "owner"
                    created = await self.call(role, "post", collection, creation, document)
                    self.ids[name] = int(created.headers["Location"].rpartition("/")[2])

    async def call(
        self,
        role: str,
        method: str,
        path: str,
        operation: Operation,
        document: Operation,
        scope: str | None = None,
        api_scope: str | None = None,
    ) -> Response:
        """Call an operation about Alice's, in a role, by a token of a scope or one that may do everything.

        With an `api_scope` it is an API token, else one of a session.
        """
        if api_scope is not None:
            self.pairs[role] = {"access_token": await add_token(self.app, self.users[role], api_scope)}
        elif role in self.users:  # Some operations end the session that they are called in.
            self.pairs[role] = await open_session(self.app, self.users[role], scope=scope)
        headers = bearer(self.pairs[role]) if role in self.pairs else {}
        content = operation.get("requestBody", {}).get("content", {})
        body = self.bodies.get(operation["operationId"]) or self.example(content, document)
        form = "application/x-www-form-urlencoded" in content
        sent: dict[str, Any] = {} if not content else {"data" if form else "json": body}
        return await self.client.request(method, path.format(**self.ids), headers=headers, **sent)

    def example(self, content: Mapping[str, Any], document: Operation) -> dict[str, Any]:
        """Return a body of the examples of its fields, or the first of their choices; of other fields, none.

        A user whom it names has nothing to do with Alice yet.
        """
        for media in content.values():
            schema = document["components"]["schemas"][media["schema"]["$ref"].rpartition("/")[2]]
            fields = schema["properties"].items()
            examples = {name: field.get("examples") or field.get("enum") for name, field in fields}
            body = {name: values[0] for name, values in examples.items() if values}
            return body | ({"user_id": self.bystander} if "user_id" in body else {})
        return {}


def operations(document: Operation) -> Iterator[tuple[str, str, Operation]]:
    """Yield the method, the path and the operation."""
    for path, methods in document["paths"].items():
        for method in methods.keys() & METHODS:
            yield method, path, methods[method]


def expected(role: str, path: str, operation: Operation, superusers: set[str]) -> set[int]:
    """Return the statuses; 200 stands for whatever the document has for a caller with the right, also a conflict."""
    answers = ANSWERS.get(operation["operationId"], {200})
    if operation.get("security") == []:
        return answers
    if role in {"nobody", "disabled"}:
        return {401}
    if operation["operationId"] in superusers:
        return {200} if role == "superuser" else {403}
    named = re.findall(r"\{(\w+)\}", path)
    return answers if role == "owner" or not named else OF_ANOTHER.get(named[0], REFUSED)[role]


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
        statuses = expected(role, path, operation, world.superusers)
        may = answer.is_success or answer.status_code in {304, 409}
        fine = may if statuses == {200} else answer.status_code in statuses
        declared = str(answer.status_code) in operation["responses"]
        if not (fine and declared):
            wrong.append(f"{method} {path}: {answer.status_code} for {statuses}, declared: {declared}, {answer.text}")
        if statuses == {401}:
            bare = answer.headers["www-authenticate"] == "Bearer"
            assert bare == (role == "nobody")
    assert wrong == []


@pytest.mark.parametrize("role", ["owner", "stranger", "superuser"])
async def test_a_token_of_a_scope_does_what_the_scope_and_the_role_allow(world: World, role: str) -> None:
    """Each operation is called with its own scope, with all others, and with all scopes where none is enough."""
    document = (await world.client.get("/openapi.json")).json()
    (scheme,) = document["components"]["securitySchemes"].values()
    known = set(scheme["flows"]["password"]["scopes"])
    wrong = []
    for method, path, operation in in_order(document):
        for requirement in operation["security"]:
            (needed,) = requirement.values()
            refused = await world.call(role, method, path, operation, document, " ".join(sorted(known - set(needed))))
            challenge = f'Bearer error="insufficient_scope", scope="{needed[0]}"' if needed else None
            if (refused.status_code, refused.headers.get("WWW-Authenticate")) != (403, challenge):
                wrong.append(f"{method} {path} without {needed}: {refused.status_code}, {refused.text}")
            if needed:
                answer = await world.call(role, method, path, operation, document, needed[0])
                statuses = expected(role, path, operation, world.superusers)
                may = answer.is_success or answer.status_code in {304, 409}
                if not (may if statuses == {200} else answer.status_code in statuses):
                    wrong.append(f"{method} {path} with {needed}: {answer.status_code} for {statuses}, {answer.text}")
    assert wrong == []


@pytest.mark.parametrize("role", ["owner", "stranger", "superuser"])
async def test_an_api_token_does_what_its_scope_and_the_role_allow(world: World, role: str) -> None:
    """What an own session alone may do, it doesn't, with all scopes together; nor does it change what is others'."""
    document = (await world.client.get("/openapi.json")).json()
    known = set(token_scopes(world.app))
    wrong = []
    for method, path, operation in in_order(document):
        for requirement in operation["security"]:
            (scopes,) = requirement.values()
            needed = next((scope for scope in scopes if scope in known), "")
            others = " ".join(sorted(known - {needed}))
            refused = await world.call(role, method, path, operation, document, api_scope=others)
            changes_others = (
                operation["operationId"] in world.superusers and scopes[:1] and scopes[0].endswith(":write")
            )
            own_only = not scopes or changes_others
            challenge = None if own_only else f'Bearer error="insufficient_scope", scope="{scopes[0]}"'
            if (refused.status_code, refused.headers.get("WWW-Authenticate")) != (403, challenge):
                wrong.append(f"{method} {path} without {scopes}: {refused.status_code}, {refused.text}")
            if needed:
                answer = await world.call(role, method, path, operation, document, api_scope=needed)
                statuses = expected(role, path, operation, world.superusers)
                may = answer.is_success or answer.status_code in {304, 409}
                if not (may if statuses == {200} else answer.status_code in statuses):
                    wrong.append(f"{method} {path}: {answer.status_code} for {statuses}, {answer.text}")
    assert wrong == []


def in_order(document: Operation) -> list[tuple[str, str, Operation]]:
    """Return all operations, those last that end what the others need, and parts before what they are part of."""
    rank = {
        "end_session": 1,
        "end_grant": 1,
        "end_api_token": 1,
        "end_other_sessions": 2,
        "reset_password": 3,
        "change_password": 4,
        "undo_address_change": 5,
        "delete_user": 7,
        "delete_me": 8,
    }

    def place(row: tuple[str, str, Operation]) -> tuple[int, int, str, str]:
        method, path, operation = row
        turn = rank.get(operation["operationId"], 6 if method == "delete" else 0)
        return turn, -path.count("/") if turn else 0, path, method

    return sorted(operations(document), key=place)
