"""Sessions and their tokens, as a client of the OAuth endpoints handles them."""

from collections.abc import Sequence
from typing import Any

from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar
from msgspec import to_builtins
from sqlalchemy import Row
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database.sessions import Columns
from app.security.limits import Client
from tests.factories import add_user, auth_service, parts_of

Pair = dict[str, Any]
"""The answer of the token endpoint."""


async def open_session(
    app: Litestar, user_id: int, *, address: str = "192.0.2.1", device: str = "tests", scope: str | None = None
) -> Pair:
    """Open one more session of a user, without the request and the hash of a login."""
    client = Client(address, address, device)
    pair: Pair = to_builtins(await auth_service(app).open_session(user_id, client, scope=scope))
    return pair


async def new_user(app: Litestar, username: str = "alice", *, scope: str | None = None, **columns: object) -> Pair:
    """Add a user and open their first session."""
    user = await add_user(app, username, **columns)
    return await open_session(app, user.id, scope=scope)


def bearer(pair: Pair) -> dict[str, str]:
    """Return the headers of a call with the pair's access token."""
    return {"Authorization": f"Bearer {pair['access_token']}"}


async def refresh(client: AsyncClient, token: Pair | str, **form: str) -> Response:
    """Refresh a login and return the answer."""
    value = token if isinstance(token, str) else token["refresh_token"]
    return await client.post("/token", data={"grant_type": "refresh_token", "refresh_token": value, **form})


async def refreshed(client: AsyncClient, pair: Pair) -> Pair:
    """Refresh a login and return its next pair."""
    answer = await refresh(client, pair)
    assert answer.status_code == 200, answer.text
    following: Pair = answer.json()
    return following


async def status_of(client: AsyncClient, pair: Pair) -> int:
    """Return the status of a call with the pair's access token."""
    return (await client.get("/users/me", headers=bearer(pair))).status_code


async def execute(app: Litestar, statement: UpdateBase) -> None:
    """Run a statement that changes rows, to move the time say."""
    async with parts_of(app).database.transaction() as transaction:
        await transaction.execute(statement)


async def fetch(app: Litestar, statement: TypedReturnsRows[*Columns]) -> Sequence[Row[*Columns]]:
    """Return rows as the database has them."""
    return await parts_of(app).database.fetch(statement, {})


def client_from(app: Litestar, address: str, **headers: str) -> AsyncClient:
    """Return a client whose connections come from an address."""
    # The two libraries spell ASGI's types differently.
    transport = ASGITransport(app, raise_app_exceptions=False, client=(address, 50000))  # type: ignore[arg-type] # the same protocol
    return AsyncClient(transport=transport, base_url="http://test", headers=headers)
