"""Applications: who registers them, what can be registered, and how they prove who they are."""

from base64 import b64encode
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import pytest
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select, update

from app.auth.caller import Caller, InvalidCredentials
from app.auth.models import LoginSession
from app.database.models import now
from app.oauth.authorization import InvalidApplication, Step
from app.oauth.clients import CREDENTIALS_GRANT, DEVICE_GRANT, Registered
from app.oauth.feature import OAuthParts, create_authorization_service
from app.oauth.models import OAuthClient
from app.oauth.repository import StoredClient
from app.oauth.schemas import ClientCreate, ClientUpdate
from app.operations.migrations import migrate
from tests.auth.oauth import bearer, execute, fetch, open_session, refresh
from tests.factories import PASSWORD, add_user, on_sqlite, parts_of
from tests.oauth.browsers import answer_of, authorize, code_by_browser, new_browser
from tests.oauth.flow import (
    BROWSER,
    CALLBACK,
    SCOPES,
    add_client,
    client_service,
    credentials,
    exchange,
    new_code,
    new_person,
    new_tokens,
    parameters,
)
from tests.operations.cli import litestar
from tests.pages.person import Page

DOCS = Registered(
    StoredClient(0, "docs", "", "", "", "", False, True, "RS256", None, None, None),  # noqa: FBT003 - a row
    None,
)
NEW = {"name": "Umbrella Counter", "scopes": SCOPES, "redirect_uris": [CALLBACK]}


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Return the headers of an application that sends its secret by Basic."""
    text = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": f"Basic {b64encode(text.encode()).decode()}"}


async def test_a_superuser_registers_changes_and_removes_an_application(root: AsyncClient, app: Litestar) -> None:
    """The secret is shown once, and the database has a digest of it."""
    created = await root.post("/clients", json=NEW)
    assert (created.status_code, created.headers["cache-control"]) == (201, "no-store")
    body = created.json()
    assert created.headers["location"] == f"/clients/{body['id']}"
    secret = body.pop("client_secret")
    assert body == {
        "id": body["id"],
        "client_id": body["client_id"],
        **NEW,
        "grant_types": ["authorization_code", "refresh_token"],
        "confidential": True,
        "first_party": False,
        "id_token_signed_response_alg": "RS256",
    }
    (row,) = await fetch(app, OAuthClient.__table__.select())
    assert secret not in str(row)
    path = f"/clients/{body['id']}"
    assert (await root.get(path)).json() == body
    assert (await root.get("/clients")).json() == [body]
    changes = {"name": "Counter", "redirect_uris": ["http://127.0.0.1/"], "id_token_signed_response_alg": "ES256"}
    assert (await root.patch(path, json=changes)).json() == body | changes
    assert (await root.patch(path, json={})).json() == body | changes
    assert (await root.delete(path)).status_code == 204
    for answer in (
        await root.get(path),
        await root.patch(path, json={}),
        await root.delete(path),
        await root.post(f"{path}/secret"),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (404, "Application not found")


async def test_only_a_superusers_own_session_sees_applications(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    superuser = await add_user(app, "root", is_superuser=True)
    narrowed = await open_session(app, superuser.id, scope="users:read users:write")
    assert (await client.get("/clients")).status_code == 401
    assert (await alice.get("/clients")).json()["detail"] == "Only superusers may do this"
    refused = await client.get("/clients", headers=bearer(narrowed))
    assert (refused.status_code, refused.json()["detail"]) == (403, "Not allowed with this token")


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["nothing"]}, "/scopes"),
        ({"scopes": ["openid", "openid"]}, "/scopes"),
        ({"redirect_uris": []}, "/redirect_uris"),
        ({"redirect_uris": [CALLBACK, CALLBACK]}, "/redirect_uris"),
        ({"redirect_uris": [CALLBACK, "http://app.example.com/"]}, "/redirect_uris/1"),
        ({"redirect_uris": ["https://*.example.com/"]}, "/redirect_uris/0"),
        ({"redirect_uris": [f"https://{'a' * 300}/callback"]}, "/redirect_uris/0"),
        ({"grant_types": ["password"]}, "/grant_types"),
        ({"grant_types": ["client_credentials"], "confidential": False}, "/grant_types"),
        ({"id_token_signed_response_alg": "none"}, "/id_token_signed_response_alg"),
        ({"secret": "mine"}, "/secret"),
    ],
)
async def test_what_cant_be_is_refused(root: AsyncClient, changes: dict[str, Any], pointer: str) -> None:
    """An application is changed by the same rules as it is made."""
    created = await root.post("/clients", json=NEW | changes)
    assert (created.status_code, created.json()["errors"][0]["pointer"]) == (422, pointer)
    if "confidential" not in changes:
        path = (await root.post("/clients", json=NEW)).headers["location"]
        changed = await root.patch(path, json=changes)
        assert (changed.status_code, changed.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_public_application_has_no_secret(root: AsyncClient) -> None:
    created = await root.post("/clients", json=NEW | {"confidential": False})
    assert "client_secret" not in created.json()
    refused = await root.post(f"{created.headers['location']}/secret")
    assert (refused.status_code, refused.json()["detail"]) == (409, "A public application has no secret")


async def test_the_secret_before_is_good_for_another_day(app: Litestar, client: AsyncClient, root: AsyncClient) -> None:
    """The one before that isn't."""
    application = await add_client(app)
    person = await new_person(app)
    path = f"/clients/{application.client.id}/secret"
    renewed = await root.post(path)
    assert (renewed.status_code, renewed.headers["cache-control"]) == (201, "no-store")
    second = renewed.json()["client_secret"]

    async def status_with(secret: str | None) -> int:
        return (
            await exchange(client, application, await new_code(person, application), client_secret=secret)
        ).status_code

    assert [await status_with(secret) for secret in (application.secret, second)] == [200, 200]
    await execute(app, update(OAuthClient).values(former_secret_until=now() - timedelta(seconds=1)))
    assert [await status_with(secret) for secret in (application.secret, second)] == [401, 200]
    third = (await root.post(path)).json()["client_secret"]
    assert [await status_with(secret) for secret in (application.secret, second, third)] == [401, 200, 200]


async def test_an_application_proves_who_it_is(app: Litestar, client: AsyncClient) -> None:
    """By Basic or in the form, never by both; whatever is wrong has one answer."""
    application, person = await add_client(app), await new_person(app)
    name, secret = application.client.client_id, application.secret or ""

    async def answer(headers: dict[str, str], **changes: str | None) -> tuple[int, str | None]:
        client.headers.pop("Authorization", None)
        client.headers.update(headers)
        response = await exchange(client, application, await new_code(person, application), **changes)
        if response.status_code == 401:
            assert response.headers["www-authenticate"].startswith("Basic")
        return response.status_code, response.json().get("error")

    neither: dict[str, str | None] = {"client_id": None, "client_secret": None}
    assert await answer({}) == (200, None)
    assert await answer(basic(name, secret), **neither) == (200, None)
    assert await answer(basic(name, secret), client_secret=None) == (200, None)
    assert await answer(basic(name, secret)) == (400, "invalid_request")
    assert await answer(basic(name, secret), client_id="other", client_secret=None) == (400, "invalid_request")
    assert await answer(basic(name, "wrong"), **neither) == (401, "invalid_client")
    assert await answer(basic("unknown", secret), **neither) == (401, "invalid_client")
    assert await answer({"Authorization": "Basic !"}, **neither) == (401, "invalid_client")
    assert await answer({}, client_secret="wrong") == (401, "invalid_client")
    assert await answer({}, client_secret=None) == (401, "invalid_client")
    assert await answer({}, client_id="unknown") == (401, "invalid_client")
    assert await answer({}, **neither) == (401, "invalid_client")


async def test_what_a_public_application_sends_as_its_secret_is_ignored(app: Litestar, client: AsyncClient) -> None:
    application, person = await add_client(app, confidential=False), await new_person(app)
    name = application.client.client_id
    for headers, secret in (({}, None), ({}, "whatever"), (basic(name, ""), None), (basic(name, "x"), "y")):
        client.headers.pop("Authorization", None)
        client.headers.update(headers)
        code = await new_code(person, application)
        assert (await exchange(client, application, code, client_secret=secret)).status_code == 200


async def test_tokens_are_refreshed_by_their_application_only(app: Litestar, client: AsyncClient) -> None:
    """Whoever else sends a refresh token gets nothing, spends nothing and ends nothing."""
    application, other, person = await add_client(app), await add_client(app), await new_person(app)
    tokens = await new_tokens(client, person, application)
    refused = await refresh(client, tokens, **credentials(other))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    for form in ({}, {"client_id": "unknown"}):
        unknown = await refresh(client, tokens, **form)
        assert (unknown.status_code, unknown.json()["error"]) == (401, "invalid_client")
    wrong = await refresh(client, tokens, client_id=application.client.client_id)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    renewed = (await refresh(client, tokens, **credentials(application))).json()
    assert (await client.get("/items/", headers=bearer(renewed))).status_code == 200


async def test_a_reused_refresh_token_of_an_application_ends_its_session(app: Litestar, client: AsyncClient) -> None:
    """By the same rules as a person's own; the grace of ten seconds revives nothing that was ended."""
    application, person = await add_client(app), await new_person(app)
    first = await new_tokens(client, person, application)
    second = (await refresh(client, first, **credentials(application))).json()
    again = await refresh(client, first, **credentials(application))
    assert again.status_code == 200
    third = (await refresh(client, second, **credentials(application))).json()
    assert (await refresh(client, first, **credentials(application))).status_code == 400
    assert (await client.get("/items/", headers=bearer(third))).status_code == 401
    fresh = await new_tokens(client, person, application)
    renewed = (await refresh(client, fresh, **credentials(application))).json()
    await client.post("/revoke", data={"token": renewed["access_token"], **credentials(application)})
    assert (await refresh(client, fresh, **credentials(application))).status_code == 400


async def test_a_session_that_has_ended_gets_no_secret_and_changes_no_application_by_a_request_on_its_way(
    app: Litestar, root: AsyncClient
) -> None:
    """The guard has let the request in before the session ended; a secret would outlive what ended it."""
    application, service = await add_client(app), client_service(app)
    ended = Caller((await root.get("/users/me")).json()["id"], 1, BROWSER)
    with pytest.raises(InvalidCredentials):
        await service.create(ClientCreate(name="Counter", scopes=["openid"], redirect_uris=[CALLBACK]), ended)
    with pytest.raises(InvalidCredentials):
        await service.new_secret(application.client.id, ended)
    with pytest.raises(InvalidCredentials):
        await service.update(application.client.id, ClientUpdate(name="Other"), ended)
    (left,) = await service.all()
    assert left == application.client


async def test_an_application_that_loses_a_scope_has_it_no_more_after_a_refresh(
    app: Litestar, client: AsyncClient, root: AsyncClient
) -> None:
    """Once it may not refresh any more, it doesn't."""
    application, person = await add_client(app), await new_person(app)
    tokens = await new_tokens(client, person, application)
    path = f"/clients/{application.client.id}"
    await root.patch(path, json={"scopes": ["openid", "offline_access"]})
    renewed = (await refresh(client, tokens, **credentials(application))).json()
    assert renewed["scope"] == "openid offline_access"
    assert (await client.get("/items/", headers=bearer(renewed))).status_code == 403
    await root.patch(path, json={"scopes": ["profile"]})
    assert (await refresh(client, renewed, **credentials(application))).json()["error"] == "invalid_scope"
    await root.patch(path, json={"scopes": SCOPES, "grant_types": ["authorization_code"]})
    assert (await refresh(client, renewed, **credentials(application))).json()["error"] == "unauthorized_client"


async def test_an_application_that_loses_offline_access_gets_no_further_refresh_token(
    app: Litestar, client: AsyncClient, root: AsyncClient
) -> None:
    """Neither by the next refresh nor by its repetition, whose answer was lost."""
    application, person = await add_client(app), await new_person(app)
    tokens = await new_tokens(client, person, application)
    await root.patch(f"/clients/{application.client.id}", json={"scopes": ["openid", "items:read"]})
    for _ in range(2):
        last = await refresh(client, tokens, **credentials(application))
        assert (last.status_code, last.json()["scope"]) == (200, "openid items:read")
        assert "refresh_token" not in last.json()
    rows = await fetch(app, select(LoginSession.expires_at).where(LoginSession.client_id.is_not(None)))
    assert max(row.expires_at for row in rows) <= now() + timedelta(minutes=30)


async def test_a_scope_of_a_feature_that_was_taken_out_is_none(
    app: Litestar, client: AsyncClient, root: AsyncClient
) -> None:
    """An application goes on without it; one that has none left is refused everywhere."""
    application = await add_client(app, grant_types=["authorization_code", CREDENTIALS_GRANT, DEVICE_GRANT])
    path, browser = f"/clients/{application.client.id}", await new_browser(app)
    await execute(app, update(OAuthClient).values(scope="items:read gone:read"))
    assert (await root.get(path)).json()["scopes"] == ["items:read"]
    assert (await root.patch(path, json={"name": "Counter"})).json()["scopes"] == ["items:read"]
    code = await code_by_browser(browser, application, scope=None)
    assert (await exchange(client, application, code)).json()["scope"] == "items:read"
    own = {"grant_type": CREDENTIALS_GRANT, **credentials(application)}
    assert (await client.post("/token", data=own)).json()["scope"] == "items:read"
    waiting = (await client.post("/device_authorization", data=credentials(application))).json()
    form = Page(await browser.get("/account/device")).form
    asked = await browser.post("/account/device", data={**form.fields, "code": waiting["user_code"]})
    assert (asked.status_code, "gone" in asked.text) == (200, False)
    await execute(app, update(OAuthClient).values(scope="gone:read"))
    assert answer_of(await authorize(browser, application, scope=None))["error"] == "invalid_scope"
    for address, data in (("/device_authorization", credentials(application)), ("/token", own)):
        refused = await client.post(address, data=data)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")


async def test_an_application_revokes_its_own_tokens_only(app: Litestar, client: AsyncClient) -> None:
    """Nobody else revokes them either, and a person's own session isn't the application's."""
    application, other, person = await add_client(app), await add_client(app), await new_person(app)
    tokens = await new_tokens(client, person, application)
    own = await open_session(app, (await add_user(app, "bob")).id)
    for kind in ("access_token", "refresh_token"):
        refused = await client.post("/revoke", data={"token": tokens[kind], **credentials(other)})
        assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")
        unknown = await client.post("/revoke", data={"token": tokens[kind]})
        assert (unknown.status_code, unknown.json()["error"]) == (401, "invalid_client")
    assert (await client.post("/revoke", data={"token": own["access_token"], **credentials(other)})).status_code == 400
    wrong = await client.post("/revoke", data={"token": tokens["access_token"], "client_id": other.client.client_id})
    assert wrong.status_code == 401
    for token in (tokens, own):
        assert (await client.get("/items/", headers=bearer(token))).status_code == 200
    assert (await client.post("/revoke", data={"token": "unknown", **credentials(other)})).status_code == 200


async def test_an_application_of_the_operators_may_take_passwords(app: Litestar, client: AsyncClient) -> None:
    """Another one may not; an unknown one is passed over, as ever."""
    first, third = await add_client(app, first_party=True), await add_client(app)
    await add_user(app, "alice")
    form = {"username": "alice", "password": PASSWORD}
    tokens = (await client.post("/token", data={**form, **credentials(first)})).json()
    assert tokens["scope"] == " ".join(SCOPES)
    assert (await refresh(client, tokens, **credentials(first))).status_code == 200
    assert (await client.get("/users/me/sessions", headers=bearer(tokens))).status_code == 403
    more = await client.post("/token", data={**form, **credentials(first), "scope": "users:read"})
    assert more.json()["error"] == "invalid_scope"
    refused = await client.post("/token", data={**form, **credentials(third)})
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")
    assert "scope" not in (await client.post("/token", data={**form, "client_id": "unknown"})).json()


def test_the_operators_command_registers_an_application(empty_sqlite_url: str) -> None:
    """It prints what the application needs, once, and refuses what can't be in one line."""
    migrate(empty_sqlite_url)
    command = ("create-client", "Umbrella Counter", "--scope", "openid items:read", "--redirect-uri")
    status, printed = litestar(empty_sqlite_url, *command, CALLBACK)
    assert status == 0
    assert printed.startswith("client_id: ")
    assert "client_secret: " in printed
    assert litestar(empty_sqlite_url, *command, "http://app.example.com/")[0] == 1


async def test_the_docs_are_an_application_from_the_start(app: Litestar, client: AsyncClient) -> None:
    """Its row is made when it is first used, once; it has every scope, and answers go to the docs alone."""
    person, address = await new_person(app), "http://127.0.0.1:8000/docs/oauth2-redirect.html"
    service = create_authorization_service(parts_of(app), OAuthParts(parts_of(app)))
    given = {**parameters(DOCS), "redirect_uri": address, "scope": " ".join(parts_of(app).scopes)}
    request, again = [await service.read(list(given.items())) for _ in range(2)]
    assert request == again
    assert await service.next_step(request, person.user) is Step.NOTHING
    with pytest.raises(InvalidApplication):
        await service.read(list((given | {"redirect_uri": CALLBACK}).items()))
    code = (await service.approve(request, person.user, BROWSER)).partition("code=")[2].partition("&")[0]
    tokens = (await exchange(client, DOCS, code, redirect_uri=address)).json()
    assert (await client.get("/items/", headers=bearer(tokens))).status_code == 200
    assert len(await fetch(app, OAuthClient.__table__.select())) == 1
