"""PASSWORD_GRANT=false: no application is told a password, and nothing offers it."""

import pytest
from msgspec.structs import replace

from app.main import create_app
from app.settings import Settings
from tests.auth.oauth import new_user, refresh
from tests.factories import PASSWORD, connect_to, on_sqlite
from tests.oauth.browsers import browser_of, code_by_browser
from tests.oauth.flow import add_client, credentials, exchange
from tests.pages.person import Person


async def test_without_the_password_grant_no_application_takes_passwords(settings: Settings) -> None:
    """Neither one of the operator's own nor none; whoever is signed in stays so."""
    app = create_app(replace(settings, password_grant=False))
    async with connect_to(app) as client:
        pair, own = await new_user(app), await add_client(app, first_party=True)
        login = {"username": "alice", "password": PASSWORD}
        for form in ({}, {"client_id": "unknown"}, credentials(own)):
            for kind in ({}, {"grant_type": "password"}):
                refused = await client.post("/token", data=login | form | kind)
                assert (refused.status_code, refused.json()["error"]) == (400, "unsupported_grant_type")
        assert (await refresh(client, pair)).status_code == 200
        browser = await browser_of(app, 1)
        answer = await exchange(client, own, await code_by_browser(browser, own))
        assert answer.status_code == 200
        assert (await Person(app).sign_in("alice", PASSWORD)).texts


@on_sqlite
@pytest.mark.parametrize("account_pages", [True, False])
async def test_without_the_password_grant_nothing_offers_it(settings: Settings, *, account_pages: bool) -> None:
    """The document has no such flow, and no default that it then refuses; without pages people have passkeys."""
    app = create_app(replace(settings, password_grant=False, account_pages=account_pages))
    async with connect_to(app) as client:
        document = (await client.get("/openapi.json")).json()
        (scheme,) = document["components"]["securitySchemes"].values()
        assert list(scheme["flows"]) == (["authorizationCode"] if account_pages else [])
        assert "password" not in scheme["description"]
        form = document["components"]["schemas"]["TokenRequest"]
        kind = form["properties"]["grant_type"]
        assert kind["examples"][0] in kind["enum"]
        assert {"default", "password"}.isdisjoint([*kind, *kind["enum"]])
        assert {"username", "password", "otp"}.isdisjoint(form["properties"])
        server = (await client.get("/.well-known/openid-configuration")).json()
        assert server["grant_types_supported"] == kind["enum"]
        for page in ("/docs", "/docs/scalar"):
            assert (await client.get(page)).status_code == 200
