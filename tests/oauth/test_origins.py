"""Pages of applications, which call some endpoints from a browser at another origin."""

from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy.exc import OperationalError

from app.http.cors import OriginLayer
from app.main import create_app
from app.settings import Settings
from tests.factories import connect_to, on_sqlite
from tests.oauth.flow import add_client

ORIGIN = "https://app.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
ALLOWED = "access-control-allow-origin"


@pytest.fixture(params=[(), ("https://frontend.example.com",)], ids=["alone", "with CORS_ORIGINS"])
async def page(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[tuple[Litestar, AsyncClient]]:
    """An application, and a client of it; with and without origins that the operator has set."""
    app = create_app(replace(settings, cors_origins=request.param))
    async with connect_to(app) as client:
        yield app, client


@on_sqlite
async def test_pages_at_a_registered_origin_may_call_what_they_need(page: tuple[Litestar, AsyncClient]) -> None:
    """Also to read an error; without cookies, and nothing else of the API."""
    app, client = page
    await add_client(app, redirect_uris=[f"{ORIGIN}/callback", "com.example.app:/callback"])
    for path in ("/token", "/revoke", "/token/"):
        asked = await client.options(path, headers={"Origin": ORIGIN, **PREFLIGHT})
        assert (asked.status_code, asked.headers[ALLOWED]) == (204, ORIGIN)
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert "content-type" in asked.headers["access-control-allow-headers"].lower()
        answer = await client.post(path, data={"grant_type": "unknown"}, headers={"Origin": ORIGIN})
        assert (answer.status_code, answer.headers[ALLOWED]) == (400, ORIGIN)
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    assert ALLOWED not in (await client.get("/items/", headers={"Origin": ORIGIN})).headers
    assert ALLOWED not in (await client.post("/introspect", headers={"Origin": ORIGIN})).headers


@on_sqlite
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "null",
        "*",
        "com.example.app",
    ],
)
async def test_pages_elsewhere_may_not(page: tuple[Litestar, AsyncClient], origin: str) -> None:
    app, client = page
    await add_client(app, redirect_uris=[f"{ORIGIN}/callback", "com.example.app:/callback"])
    asked = await client.options("/token", headers={"Origin": origin, **PREFLIGHT})
    answer = await client.post("/token", data={"grant_type": "unknown"}, headers={"Origin": origin})
    assert ALLOWED not in asked.headers
    assert ALLOWED not in answer.headers


async def test_an_origin_goes_with_its_redirect_uri_and_its_application(
    app: Litestar, client: AsyncClient, root: AsyncClient
) -> None:
    path = f"/clients/{(await add_client(app)).client.id}"

    async def is_allowed(origin: str) -> bool:
        return ALLOWED in (await client.post("/token", headers={"Origin": origin})).headers

    assert await is_allowed(ORIGIN)
    await root.patch(path, json={"redirect_uris": ["http://127.0.0.1:5173/callback"]})
    assert [await is_allowed(origin) for origin in (ORIGIN, "http://127.0.0.1:5173")] == [False, True]
    await root.delete(path)
    assert not await is_allowed("http://127.0.0.1:5173")


async def test_while_the_database_is_away_no_origin_is_known() -> None:
    """The request itself goes on, and says what is wrong."""

    async def is_known(_origin: str) -> bool:
        raise OperationalError("SELECT", {}, OSError())

    async def app(*_: object) -> None:
        """Never called."""

    layer = OriginLayer(app, paths={"/token"}, is_known=is_known, others=())
    assert not await layer.allows(ORIGIN)
