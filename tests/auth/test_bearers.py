"""Kinds of bearer tokens that features add: the guard reads them, and they end with everything else."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from httpx import AsyncClient
from litestar import Litestar

from app.auth.caller import SignedIn
from app.database.models import now
from app.database.sessions import Transaction
from app.http.feature import Feature, Parts
from app.main import FEATURES, create_app
from app.security.limits import Client
from app.security.tokens import InvalidTokenError
from app.settings import Settings
from tests.factories import PASSWORD, People, client_of, connect_to, create_item, on_sqlite
from tests.problems import assert_problem

TOKEN = "tst_right"


class SampleTokens:
    """One token, of one user at a time, that may do what its scope says."""

    def __init__(self) -> None:
        self.user: SignedIn | None = None
        self.asked = 0
        self.ended: list[int] = []

    def verify(self, token: str) -> str:
        """Raise InvalidTokenError for any other token."""
        if token != TOKEN:
            raise InvalidTokenError
        return token

    async def signed_in(self, verified: str) -> SignedIn | None:
        """Return the user, unless the token has ended."""
        assert verified == TOKEN
        self.asked += 1
        return self.user

    async def set_last_write(self, user: SignedIn, moment: datetime) -> None:
        """Do nothing: there are no replicas."""

    async def revoke(self, token: str, client: Client) -> None:
        """End the token."""
        assert client.address
        if token == TOKEN:
            self.user = None

    async def end_all(self, _transaction: Transaction, user_id: int) -> None:
        """End the token of a user."""
        self.ended.append(user_id)

    def belong_to(self, user_id: int, scope: str, *, is_superuser: bool = False) -> None:
        """Give the token to a user."""
        moment = now()
        self.user = SignedIn(
            id=user_id,
            username="alice",
            email="alice@example.org",
            is_active=True,
            is_superuser=is_superuser,
            email_verified=True,
            created_at=moment,
            session_id=0,
            last_used_at=moment,
            wrote_at=None,
            scope=scope,
            token_id=1,
        )


@pytest.fixture
def samples() -> SampleTokens:
    """The kind of token that the application's last feature adds."""
    return SampleTokens()


@pytest.fixture
def app(settings: Settings, samples: SampleTokens) -> Litestar:
    """An application with that feature."""

    def feature(_parts: Parts) -> Feature:
        return Feature(bearers={"tst_": samples})

    return create_app(settings, [*FEATURES, feature])


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncClient]:
    """A client that isn't signed in."""
    async with connect_to(app) as client:
        yield client


@pytest.fixture
def program(client: AsyncClient, app: Litestar) -> AsyncClient:
    """A client that has the token."""
    assert client.base_url.host == "test"  # The application runs.
    return client_of(app, Authorization=f"Bearer {TOKEN}")


async def id_of(client: AsyncClient) -> int:
    """Return the id of a client's user."""
    user_id: int = (await client.get("/users/me")).json()["id"]
    return user_id


@on_sqlite
async def test_a_kind_reads_its_tokens_and_ends_them(
    people: People, program: AsyncClient, samples: SampleTokens
) -> None:
    """What it refuses by itself asks no database; a token that has ended is refused, too."""
    wrong = {"Authorization": "Bearer tst_wrong"}
    assert_problem(await program.get("/items", headers=wrong), 401, "Could not validate credentials")
    assert samples.asked == 0
    assert_problem(await program.get("/items"), 401, "Could not validate credentials")
    alice = await people.sign_in("alice")
    samples.belong_to(await id_of(alice), "items:read items:write")
    made = (await create_item(program)).json()
    assert (await alice.get(f"/items/{made['id']}")).json() == made
    assert_problem(await program.get("/users/me"), 403, "The token lacks the scope account:read")
    assert (await people.client.post("/revoke", data={"token": "tst_wrong"})).status_code == 200
    assert (await program.get("/items")).status_code == 200
    assert (await people.client.post("/revoke", data={"token": TOKEN})).status_code == 200
    assert_problem(await program.get("/items"), 401)


@on_sqlite
async def test_what_needs_an_own_session_is_asked_before_scope_and_right(
    people: People, program: AsyncClient, samples: SampleTokens
) -> None:
    """Superusers' changes need one, too, whatever the token's scopes; a narrowed session of their own does."""
    alice, root = await people.sign_in("alice"), await people.sign_in("root", is_superuser=True)
    other = f"/users/{await id_of(alice)}"
    refused = [
        ("GET", "/users/me/sessions", None),
        ("PATCH", "/users/me", {"email": "new@example.org"}),
        ("PATCH", other, {"is_active": False}),
        ("DELETE", other, None),
    ]
    for scope in ("items:read", "account:write users:read users:write"):
        for is_superuser in (False, True):
            samples.belong_to(await id_of(root), scope, is_superuser=is_superuser)
            for method, path, body in refused:
                answer = await program.request(method, path, json=body)
                assert_problem(answer, 403, "Not allowed with this token")
    assert (await program.get(other)).status_code == 200
    login = await people.client.post("/token", data={"username": "root", "password": PASSWORD, "scope": "users:write"})
    narrowed = {"Authorization": f"Bearer {login.json()['access_token']}"}
    assert (await people.client.patch(other, json={"is_active": True}, headers=narrowed)).status_code == 200


@on_sqlite
async def test_a_kind_ends_its_tokens_with_a_disabled_user(people: People, samples: SampleTokens) -> None:
    """What is only promoted keeps them."""
    alice, root = await people.sign_in("alice"), await people.sign_in("root", is_superuser=True)
    user_id = await id_of(alice)
    await root.patch(f"/users/{user_id}", json={"is_superuser": True})
    assert samples.ended == []
    await root.patch(f"/users/{user_id}", json={"is_active": False})
    assert samples.ended == [user_id]
