"""What people have granted applications: listed apart from their own sessions, and ended by them."""

import pytest
from httpx import AsyncClient
from litestar import Litestar

from app.oauth.authorization import Step
from app.oauth.clients import Registered
from app.oauth.feature import OAuthParts, create_authorization_service
from app.settings import Settings
from tests.auth.oauth import bearer, open_session, refresh
from tests.factories import PASSWORD, add_user, parts_of
from tests.oauth.flow import (
    Person,
    add_client,
    credentials,
    exchange,
    new_code,
    new_person,
    new_tokens,
    parameters,
    sign_in,
)
from tests.outbox import deliver, token_in


async def is_asked(person: Person, application: Registered) -> bool:
    """Return whether a person would be asked before the application gets a code."""
    service = create_authorization_service(parts_of(person.app), OAuthParts(parts_of(person.app)))
    request = await service.read(list(parameters(application).items()))
    return await service.next_step(request, person.user) is Step.CONSENT


async def test_a_person_sees_and_ends_what_an_application_may_do(app: Litestar, client: AsyncClient) -> None:
    """Its tokens fail at their next use, its codes are worth nothing, and it has to ask again."""
    alice, application = await add_user(app, "alice"), await add_client(app)
    person, own = await sign_in(app, alice.id), bearer(await open_session(app, alice.id))
    tokens = await new_tokens(client, person, application, scope="offline_access items:read")
    await new_tokens(client, person, application, scope="account:read")
    code = await new_code(person, application)
    (grant,) = (await client.get("/users/me/grants", headers=own)).json()
    assert grant == {
        "id": grant["id"],
        "client_id": application.client.client_id,
        "name": "Umbrella Counter",
        "scopes": ["offline_access", "items:read", "account:read", "openid"],
        "created_at": grant["created_at"],
        "last_used_at": grant["last_used_at"],
    }
    assert grant["last_used_at"].endswith(":00Z")
    path = f"/users/me/grants/{grant['id']}"
    stranger = bearer(await open_session(app, (await add_user(app, "bob")).id))
    refused = await client.delete(path, headers=stranger)
    assert (refused.status_code, refused.json()["detail"]) == (404, "Grant not found")
    assert (await client.delete(path, headers=own)).status_code == 204
    assert (await client.get("/items/", headers=bearer(tokens))).status_code == 401
    assert (await refresh(client, tokens, **credentials(application))).status_code == 400
    assert (await exchange(client, application, code)).json()["error"] == "invalid_grant"
    assert await is_asked(person, application)
    assert (await client.get("/users/me/grants", headers=own)).json() == []
    assert (await client.delete(path, headers=own)).status_code == 404


async def test_grants_are_no_sessions_of_the_persons_own(app: Litestar, client: AsyncClient) -> None:
    """They aren't in that list, aren't ended from there, and push none of them out."""
    alice, application = await add_user(app, "alice"), await add_client(app)
    person, own = await sign_in(app, alice.id), bearer(await open_session(app, alice.id))
    tokens = [await new_tokens(client, person, application) for _ in range(2)]
    sessions = (await client.get("/users/me/sessions", headers=own)).json()
    assert len(sessions) == 2
    assert (await client.delete("/users/me/sessions", headers=own)).status_code == 204
    assert (await client.get("/items/", headers=bearer(tokens[0]))).status_code == 200


async def test_an_applications_token_does_nothing_that_governs_how_its_person_signs_in(
    app: Litestar, client: AsyncClient
) -> None:
    """Nor what superusers change, whatever its scopes; it may read what a superuser may."""
    scopes = ["account:read", "account:write", "users:read", "users:write"]
    application, person = await add_client(app, scopes=scopes), await new_person(app, is_superuser=True)
    headers = bearer(await new_tokens(client, person, application, scope=None))
    other = await add_user(app, "bob")
    for method, path in (
        ("GET", "/users/me/sessions"),
        ("GET", "/users/me/grants"),
        ("DELETE", "/users/me/grants/1"),
        ("DELETE", "/users/me"),
        ("GET", "/clients"),
        ("DELETE", f"/users/{other.id}"),
    ):
        refused = await client.request(method, path, headers=headers)
        assert (refused.status_code, refused.json()["detail"]) == (403, "Not allowed with this token"), path
    changed = await client.patch(f"/users/{other.id}", json={"is_active": False}, headers=headers)
    assert changed.status_code == 403
    address = {"email": "new@example.org", "current_password": PASSWORD}
    assert (await client.patch("/users/me", json=address, headers=headers)).status_code == 403
    assert (await client.patch("/users/me", json={"username": "alicia"}, headers=headers)).status_code == 200
    assert (await client.get("/users/", headers=headers)).status_code == 200


async def test_a_password_reset_ends_all_that_was_granted(
    app: Litestar, client: AsyncClient, settings: Settings
) -> None:
    """An application has to ask again, and can't come back by itself through a browser that is signed in."""
    alice, application = await add_user(app, "alice", email_verified=True), await add_client(app)
    person = await sign_in(app, alice.id)
    tokens, code = await new_tokens(client, person, application), await new_code(person, application)
    await client.post("/password-reset", json={"email": alice.email})
    (mail,) = await deliver(app, settings)
    body = {"token": token_in(mail), "new_password": "a new and better one"}
    assert (await client.post("/password-reset/confirm", json=body)).status_code == 204
    assert (await client.get("/items/", headers=bearer(tokens))).status_code == 401
    assert (await refresh(client, tokens, **credentials(application))).status_code == 400
    assert (await exchange(client, application, code)).json()["error"] == "invalid_grant"
    assert await is_asked(await sign_in(app, alice.id), application)


@pytest.mark.parametrize("way", ["disabled", "deleted"])
async def test_grants_end_with_the_account(app: Litestar, client: AsyncClient, root: AsyncClient, way: str) -> None:
    alice, application = await add_user(app, "alice"), await add_client(app)
    person = await sign_in(app, alice.id)
    tokens, code = await new_tokens(client, person, application), await new_code(person, application)
    path = f"/users/{alice.id}"
    ended = await (root.delete(path) if way == "deleted" else root.patch(path, json={"is_active": False}))
    assert ended.is_success
    assert (await client.get("/items/", headers=bearer(tokens))).status_code == 401
    assert (await exchange(client, application, code)).json()["error"] == "invalid_grant"
