"""API tokens in one call each."""

from httpx import AsyncClient, Response
from litestar import Litestar

from app.api_tokens.models import ApiToken
from app.api_tokens.service import PREFIX
from app.security.random_tokens import digest, random_token
from tests.factories import client_of, parts_of


async def add_token(app: Litestar, user_id: int, scope: str, **columns: object) -> str:
    """Add an API token of a user, without the request, and return it."""
    token = random_token(PREFIX)
    values = {"user_id": user_id, "digest": digest(token), "name": "Backup", "scope": scope, "hint": token[-4:]}
    async with parts_of(app).database.transaction() as transaction:
        transaction.add(ApiToken(**(values | columns)))
    return token


async def script_of(app: Litestar, user_id: int, scope: str) -> AsyncClient:
    """Return a client with a new API token of a user."""
    return client_of(app, Authorization=f"Bearer {await add_token(app, user_id, scope)}")


async def create_token(client: AsyncClient, *scopes: str, **fields: object) -> Response:
    """Have a signed-in client create an API token, and return the answer."""
    return await client.post("/users/me/tokens", json={"name": "Backup", "scopes": scopes, **fields})
