"""Services whose access tokens are signed by asymmetric keys, and their keys as time goes by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import jwt
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update

from app.main import create_app
from app.security.signing.keys import LOOK_AGAIN_SECONDS, PUBLISHED_AHEAD
from app.security.signing.models import StoredSigningKey
from app.settings import Settings
from tests.auth.oauth import execute, fetch
from tests.factories import connect_to, parts_of


@asynccontextmanager
async def running(settings: Settings, **changes: object) -> AsyncIterator[tuple[Litestar, AsyncClient]]:
    """Run an instance that signs by ES256, or as the changes say."""
    app = create_app(replace(settings, **{"algorithm": "ES256", **changes}))
    async with connect_to(app) as client:
        yield app, client


def kid(token: str) -> str:
    """Return the id of the key that signed a token."""
    value: str = jwt.get_unverified_header(token)["kid"]
    return value


async def published(client: AsyncClient) -> list[str]:
    """Return the ids of the published keys for ES256; there is always one for RS256, too."""
    return [key["kid"] for key in (await client.get("/.well-known/jwks.json")).json()["keys"] if key["alg"] == "ES256"]


async def stored(app: Litestar) -> list[str]:
    """Return the ids of the keys for ES256 in the database, in their order."""
    keys = select(StoredSigningKey.kid).where(StoredSigningKey.algorithm == "ES256")
    rows = await fetch(app, keys.order_by(StoredSigningKey.number))
    return [row.kid for row in rows]


async def wait(app: Litestar, time: timedelta = PUBLISHED_AHEAD) -> None:
    """Move the time of all keys back, as if so much had passed, and let the instance read them."""
    for row in await fetch(app, select(StoredSigningKey.kid, StoredSigningKey.signs_from)):
        moved = update(StoredSigningKey).where(StoredSigningKey.kid == row.kid)
        await execute(app, moved.values(signs_from=row.signs_from - time))
    keys = parts_of(app).signing_keys
    forget_the_time(app)
    await keys.look_again()


def forget_the_time(app: Litestar) -> None:
    """Let the instance have read its keys a while ago."""
    parts_of(app).signing_keys.asked_at -= LOOK_AGAIN_SECONDS
