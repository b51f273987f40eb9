"""API tokens: how they are made, what a script does with them, and how they end."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import delete, func, insert, select, update

from app.api_tokens.models import ApiToken
from app.api_tokens.repository import SIGNED_IN, TOUCH, ApiTokenRepository
from app.auth.models import LoginSession
from app.database.models import now
from app.database.sessions import Database
from app.jobs.models import Job
from app.main import create_app
from app.security.random_tokens import checksum, digest
from app.settings import Settings
from app.users.models import User
from tests.api_tokens.tokens import add_token, create_token, script_of
from tests.auth.oauth import bearer, client_from, execute, fetch, open_session
from tests.events import ADDRESS, REQUEST, Told, event
from tests.factories import (
    PASSWORD,
    People,
    Statements,
    add_user,
    client_of,
    connect_to,
    create_item,
    on_postgresql,
    on_sqlite,
    parts_of,
)
from tests.outbox import deliver, token_in
from tests.problems import assert_oauth_error, assert_problem, pointers

NEW = "violet-umbrella-under-7-moons"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
REFUSED = "Could not validate credentials"


async def id_of(client: AsyncClient) -> int:
    """Return the id of a client's user."""
    user_id: int = (await client.get("/users/me")).json()["id"]
    return user_id


async def with_token(app: Litestar, client: AsyncClient, *scopes: str) -> AsyncClient:
    """Return a client that has a new token of a signed-in client's user."""
    return client_of(app, Authorization=f"Bearer {(await create_token(client, *scopes)).json()['token']}")


# Making them ----------------------------------------------------------------------------------------------------------


async def test_a_token_is_shown_once_and_its_owner_is_told(
    app: Litestar, alice: AsyncClient, settings: Settings
) -> None:
    """The database has its SHA-256 alone."""
    await execute(app, update(User).values(email_verified=True))
    end = datetime(2099, 1, 31, 12, tzinfo=UTC)
    answer = await create_token(alice, "items:read", "account:read", name="Nightly\nbackup", expires_at=end.isoformat())
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.json()
    assert answer.headers["Location"] == f"/users/me/tokens/{made['id']}"
    token = made.pop("token")
    assert re.fullmatch("bat_[0-9A-Za-z]{38}", token)
    assert token.endswith(checksum(token[:-6]))
    assert made["hint"] == token[-4:]
    assert (made["name"], made["scopes"]) == ("Nightly\nbackup", ["items:read", "account:read"])
    assert (made["expires_at"], made["last_used_at"]) == ("2099-01-31T12:00:00Z", None)
    listed = await alice.get("/users/me/tokens")
    assert listed.json() == [made]
    (row,) = await fetch(app, select(ApiToken.__table__))
    assert row.digest == digest(token)
    assert token not in str(row)
    (job,) = await fetch(app, select(Job.payload).where(Job.kind == "api_token_created_mail"))
    assert token not in str(job)
    (mail,) = await deliver(app, settings)
    assert (mail["To"], mail["Subject"]) == ("alice@example.org", "A new API token")
    assert '"Nightly backup"' in mail.get_content()
    assert "items:read, account:read" in mail.get_content()
    assert token not in mail.get_content()


@on_sqlite
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scopes": []}, ["/scopes"]),
        ({"scopes": None}, ["/scopes"]),
        ({"scopes": ["items:read", "items:write", "items:read"]}, ["/scopes/2"]),
        ({"scopes": ["everything", "items:read", ""]}, ["/scopes/0", "/scopes/2"]),
        ({"scopes": ["openid", "profile", "email", "offline_access"]}, [f"/scopes/{place}" for place in range(4)]),
        ({"scopes": ["users:write"]}, ["/scopes/0"]),
        ({"scopes": ["items:read items:write"]}, ["/scopes/0"]),
        ({"name": ""}, ["/name"]),
        ({"name": "x" * 101}, ["/name"]),
        ({"name": "a\0b"}, ["/name"]),
        ({"expires_at": "2099-01-31T12:00:00"}, ["/expires_at"]),
        ({"expires_at": "2020-01-31T12:00:00Z"}, ["/expires_at"]),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, ["/expires_at"]),
        ({"expires_at": "tomorrow"}, ["/expires_at"]),
        ({"expires_at": 4102444800}, ["/expires_at"]),
        ({"token": "bat_mine"}, ["/token"]),
    ],
)
async def test_what_no_token_can_be_is_refused(
    app: Litestar, people: People, fields: dict[str, Any], expected: list[str]
) -> None:
    """Nobody can have such a token, superusers included, and no error says whose value was wrong."""
    root = await people.sign_in("root", is_superuser=True)
    answer = await root.post("/users/me/tokens", json={"name": "Backup", "scopes": ["items:read"]} | fields)
    assert pointers(answer) == expected
    assert await fetch(app, select(ApiToken.id)) == []


async def test_a_scope_is_for_whoever_has_the_right(app: Litestar, people: People) -> None:
    """A superuser's token reads accounts as long as its owner is one, and changes none."""
    alice, root = await people.sign_in("alice"), await people.sign_in("root", is_superuser=True)
    refused = await create_token(alice, "items:read", "users:read")
    assert_problem(refused, 403, "You have no right to one of these scopes")
    assert "WWW-Authenticate" not in refused.headers
    script = await with_token(app, root, "users:read")
    other = f"/users/{await id_of(alice)}"
    assert (await script.get(other)).json() == (await alice.get("/users/me")).json()
    assert len((await script.get("/users")).json()) == 2
    for method, body in (("PATCH", {"is_active": False}), ("DELETE", None)):
        assert_problem(await script.request(method, other, json=body), 403, "Not allowed with this token")
    await execute(app, update(User).values(is_superuser=False))
    assert_problem(await script.get("/users"), 403, "Only superusers may do this")


async def test_of_many_at_once_one_is_the_hundredth(app: Litestar, alice: AsyncClient) -> None:
    user_id = await id_of(alice)
    rows = [
        {"user_id": user_id, "digest": digest(str(n)), "name": "x", "scope": "items:read", "hint": "x"}
        for n in range(99)
    ]
    async with parts_of(app).database.transaction() as transaction:
        await transaction.execute(insert(ApiToken), rows)
    answers = await asyncio.gather(*(create_token(alice, "items:read") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert_problem(next(answer for answer in answers if answer.status_code == 409), 409, "Too many tokens")
    first = (await alice.get("/users/me/tokens")).json()[-1]["id"]
    assert (await alice.delete(f"/users/me/tokens/{first}")).status_code == 204
    assert (await create_token(alice, "items:read")).status_code == 201
    assert (await fetch(app, select(func.count()).select_from(ApiToken)))[0][0] == 100


async def test_a_token_needs_a_fresh_sign_in_and_its_end_needs_none(app: Litestar, alice: AsyncClient) -> None:
    made = (await create_token(alice, "items:read")).json()
    await execute(app, update(LoginSession).values(authenticated_at=now() - timedelta(minutes=11)))
    stale = await create_token(alice, "items:read")
    assert_problem(stale, 401, "Sign in again: it was too long ago")
    assert stale.headers["WWW-Authenticate"].startswith('Bearer error="insufficient_user_authentication"')
    assert len((await alice.get("/users/me/tokens")).json()) == 1
    assert (await alice.delete(f"/users/me/tokens/{made['id']}")).status_code == 204


@on_postgresql
async def test_a_session_that_a_reset_has_ended_gets_no_token_by_a_request_on_its_way(
    app: Litestar, people: People, cleaner: asyncpg.Connection
) -> None:
    """The guard has let the request in before the reset's commit; the token would outlive what the reset is for."""
    alice = await people.sign_in("alice")
    async with parts_of(app).database.transaction() as reset:
        await reset.execute(update(User).values(hashed_password="another"))
        request = asyncio.create_task(create_token(alice, "items:read"))
        async with asyncio.timeout(10):
            while not await cleaner.fetchval(WAITING):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.01)
        await reset.execute(delete(LoginSession))
    assert_problem(await request, 401, REFUSED)
    assert await fetch(app, select(ApiToken.id)) == []


# Calls by them --------------------------------------------------------------------------------------------------------


async def test_a_script_does_what_its_scopes_say(app: Litestar, alice: AsyncClient) -> None:
    """It acts as its owner; an answer that was kept for a key is the user's, whichever of their tokens asks."""
    script = await with_token(app, alice, "items:read", "items:write")
    key = {"Idempotency-Key": "first"}
    made = await script.post("/items", json={"title": "Umbrella"}, headers=key)
    assert made.status_code == 201
    assert (await alice.post("/items", json={"title": "Umbrella"}, headers=key)).json() == made.json()
    assert (await alice.get("/items")).json() == (await script.get("/items")).json() == [made.json()]
    refused = await script.get("/users/me")
    assert_problem(refused, 403, "The token lacks the scope account:read")
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="account:read"'
    tag = made.headers["ETag"]
    changed = await script.patch(made.headers["Location"], json={"title": "Hat"}, headers={"If-Match": tag})
    assert changed.json()["title"] == "Hat"
    assert (await script.head("/items")).status_code == 200


async def test_a_script_governs_nothing_that_signs_in(app: Litestar, people: People) -> None:
    """Reading included, whatever its scopes are, and before they are asked."""
    root = await people.sign_in("root", is_superuser=True)
    all_scopes = ("account:read", "account:write", "items:read", "items:write", "users:read")
    for scopes in (all_scopes, ("items:read",)):
        script = await with_token(app, root, *scopes)
        for method, path, body in [
            ("GET", "/users/me/tokens", None),
            ("POST", "/users/me/tokens", {"name": "x", "scopes": ["items:read"]}),
            ("DELETE", "/users/me/tokens/1", None),
            ("GET", "/users/me/sessions", None),
            ("DELETE", "/users/me/sessions", None),
            ("PUT", "/users/me/password", {"current_password": PASSWORD, "new_password": NEW}),
            ("PATCH", "/users/me", {"email": "new@example.org", "current_password": PASSWORD}),
            ("DELETE", "/users/me", None),
        ]:
            answer = await script.request(method, path, json=body)
            assert_problem(answer, 403, "Not allowed with this token")
            assert "WWW-Authenticate" not in answer.headers
    renamed = await (await with_token(app, root, "account:write")).patch("/users/me", json={"username": "renamed"})
    assert renamed.json()["username"] == "renamed"


async def test_a_token_is_nothing_but_a_bearer_token(app: Litestar, alice: AsyncClient, client: AsyncClient) -> None:
    """No other place takes it for one of its own."""
    token = await add_token(app, await id_of(alice), "account:read")
    refreshed = await client.post("/token", data={"grant_type": "refresh_token", "refresh_token": token})
    assert_oauth_error(refreshed, 400, "invalid_grant")
    for path, extra in (("password-reset", {"new_password": NEW}), ("email-verification", {}), ("email-undo", {})):
        assert_problem(await client.post(f"/{path}/confirm", json={"token": token} | extra), 400)
    for headers, query in (({"Cookie": f"token={token}"}, {}), ({}, {"access_token": token})):
        assert (await client.get("/users/me", headers=headers, params=query)).status_code == 401
    assert (await client.get("/users/me", headers={"Authorization": f"Basic {token}"})).status_code == 401
    assert (await client.get("/users/me", headers={"Authorization": f"bearer {token}"})).status_code == 200


async def test_limits_count_calls_by_a_token_too(app: Litestar, alice: AsyncClient) -> None:
    """A limit is 429, and no reason to take the token for a wrong one."""
    script = await with_token(app, alice, "account:write")
    statuses = [(await script.post("/email-verification")).status_code for _ in range(6)]
    assert statuses == [202] * 5 + [429]


@on_sqlite
async def test_a_text_with_a_wrong_checksum_asks_no_database(
    app: Litestar, alice: AsyncClient, statements: Statements
) -> None:
    token = await add_token(app, await id_of(alice), "items:read")
    statements.clear()
    wrong = [token[:-1] + ("x" if token[-1] != "x" else "y"), "bat_", token + "0", token[:-6], "bat_" + "é" * 38]
    for text in wrong:
        answer = await alice.get("/items", headers=[(b"Authorization", f"Bearer {text}".encode("latin-1"))])
        assert_problem(answer, 401, REFUSED)
        assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
        assert text not in answer.text
    for text in wrong:
        assert (await alice.post("/revoke", data={"token": text})).status_code == 200
    assert statements == []
    assert (await client_of(app, Authorization=f"Bearer {token}").get("/items")).status_code == 200


async def test_a_call_asks_the_database_as_often_as_one_by_a_session(
    app: Litestar, alice: AsyncClient, statements: Statements
) -> None:
    """One statement reads token and user together, and the use is recorded at most once a minute."""
    script = await script_of(app, await id_of(alice), "account:read")
    statements.clear()
    await script.get("/users/me")
    assert [statement.split()[0] for statement in statements] == ["SELECT", "UPDATE"]
    statements.clear()
    by_token = await script.get("/users/me")
    assert len(statements) == 1, statements
    assert by_token.json() == (await alice.get("/users/me")).json()
    database = parts_of(app).database
    prepared = [database.prepared[statement] for statement in (SIGNED_IN, TOUCH)]
    assert all(prepared) == (database.engine.dialect.name == "postgresql")
    (row,) = (await alice.get("/users/me/tokens")).json()
    used = datetime.fromisoformat(row["last_used_at"])
    assert now() - timedelta(seconds=30) < used <= now()
    await execute(app, update(ApiToken).values(last_used_at=used - timedelta(minutes=1)))
    await script.get("/users/me")
    (row,) = (await alice.get("/users/me/tokens")).json()
    assert datetime.fromisoformat(row["last_used_at"]) >= used


@on_postgresql
async def test_where_there_are_replicas_a_token_has_a_last_write_of_its_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reads keep to the primary after that; one that hasn't written is as good as a session that hasn't."""
    app = create_app(replace(settings, database_replica_urls=("postgresql://postgres@127.0.0.1:1/nothing",)))
    async with connect_to(app):
        user = await add_user(app, "alice")
        script = await script_of(app, user.id, "items:read items:write")
        assert (await script.get("/items")).status_code == 200
        assert await fetch(app, select(ApiToken.wrote_at)) == [(None,)]
        assert (await create_item(script)).status_code == 201
        ((wrote_at,),) = await fetch(app, select(ApiToken.wrote_at))
        assert wrote_at is not None
        assert now() - timedelta(seconds=30) < wrote_at <= now()
        chosen: list[tuple[object, ...]] = []

        def choose(*of: object) -> Database:
            chosen.append(of)
            return parts_of(app).database

        monkeypatch.setattr(parts_of(app).replicas, "choose", choose)
        assert len((await script.get("/items")).json()) == 1
        ((token_id,),) = await fetch(app, select(ApiToken.id))
        assert chosen == [(token_id, wrote_at)]


# How they end ---------------------------------------------------------------------------------------------------------


async def test_an_ended_token_fails_at_its_next_use(app: Litestar, people: People) -> None:
    """Nobody else can end it, and nobody else's is there."""
    alice, bob = await people.sign_in("alice"), await people.sign_in("bob")
    script = await with_token(app, alice, "items:read")
    kept = await with_token(app, alice, "items:read")
    token_id = (await alice.get("/users/me/tokens")).json()[-1]["id"]
    path = f"/users/me/tokens/{token_id}"
    assert_problem(await bob.delete(path), 404, "Token not found")
    assert (await bob.get("/users/me/tokens")).json() == []
    assert (await script.get("/items")).status_code == 200
    assert (await alice.delete(path)).status_code == 204
    assert_problem(await script.get("/items"), 401, REFUSED)
    assert_problem(await alice.delete(path), 404, "Token not found")
    assert (await kept.get("/items")).status_code == 200


async def test_whoever_finds_a_token_can_end_it(app: Litestar, alice: AsyncClient, client: AsyncClient) -> None:
    """RFC 7009: without signing in, and again, without an error."""
    script = await with_token(app, alice, "items:read")
    kept = await with_token(app, alice, "items:read")
    found = script.headers["Authorization"].removeprefix("Bearer ")
    for hint in ("access_token", "refresh_token", "nonsense"):
        answer = await client.post("/revoke", data={"token": found, "token_type_hint": hint})
        assert (answer.status_code, answer.text) == (200, "")
    assert_problem(await script.get("/items"), 401, REFUSED)
    assert (await kept.get("/items")).status_code == 200
    assert (await alice.get("/items")).status_code == 200


async def test_a_token_expires_and_is_kept_in_the_list_for_a_while(app: Litestar, alice: AsyncClient) -> None:
    soon = (now() + timedelta(hours=1)).isoformat()
    token = (await create_token(alice, "items:read", expires_at=soon)).json()["token"]
    script = client_of(app, Authorization=f"Bearer {token}")
    assert (await script.get("/items")).status_code == 200
    await execute(app, update(ApiToken).values(expires_at=now()))
    assert_problem(await script.get("/items"), 401, REFUSED)
    repository = ApiTokenRepository(parts_of(app).database)
    assert await repository.purge() == 0
    assert len((await alice.get("/users/me/tokens")).json()) == 1
    await add_token(app, await id_of(alice), "items:read")
    await execute(
        app, update(ApiToken).where(ApiToken.expires_at.is_not(None)).values(expires_at=now() - timedelta(31))
    )
    assert await repository.purge() == 1
    assert len((await alice.get("/users/me/tokens")).json()) == 1


async def test_a_reset_password_ends_all_tokens_and_a_changed_one_none(
    app: Litestar, people: People, settings: Settings
) -> None:
    alice, bob = await people.sign_in("alice"), await people.sign_in("bob")
    await execute(app, update(User).values(email_verified=True))
    script, bobs = await with_token(app, alice, "items:read"), await with_token(app, bob, "items:read")
    changed = await alice.put("/users/me/password", json={"current_password": PASSWORD, "new_password": NEW})
    assert changed.status_code == 204
    assert (await script.get("/items")).status_code == 200
    assert len((await alice.get("/users/me/tokens")).json()) == 1
    await deliver(app, settings)
    await alice.post("/password-reset", json={"email": "alice@example.org"})
    (mail,) = await deliver(app, settings)
    body = {"token": token_in(mail), "new_password": PASSWORD}
    assert (await alice.post("/password-reset/confirm", json=body)).status_code == 204
    assert_problem(await script.get("/items"), 401, REFUSED)
    assert (await bobs.get("/items")).status_code == 200
    assert len(await fetch(app, select(ApiToken.id))) == 1


@pytest.mark.parametrize("end", ["disabled", "deleted"])
async def test_tokens_end_with_the_account(app: Litestar, people: People, end: str) -> None:
    """A disabled user's are gone for good: enabled again, the user makes new ones."""
    alice, root = await people.sign_in("alice"), await people.sign_in("root", is_superuser=True)
    script = await with_token(app, alice, "items:read")
    path = f"/users/{await id_of(alice)}"
    answer = await (root.delete(path) if end == "deleted" else root.patch(path, json={"is_active": False}))
    assert answer.is_success
    assert_problem(await script.get("/items"), 401, REFUSED)
    assert await fetch(app, select(ApiToken.id)) == []


async def test_a_user_who_was_disabled_by_other_means_calls_nothing(app: Litestar, alice: AsyncClient) -> None:
    """The statement that reads the token asks for it, too."""
    script = await with_token(app, alice, "items:read")
    await execute(app, update(User).values(is_active=False))
    assert_problem(await script.get("/items"), 401, REFUSED)


async def test_each_beginning_and_end_is_told(app: Litestar, client: AsyncClient) -> None:
    """An event has the token's id, and nothing of the token; what isn't found makes none."""
    user = await add_user(app, "alice")
    pair = await open_session(app, user.id)
    (session,) = await fetch(app, select(LoginSession.id))
    caller = client_from(app, ADDRESS, **{"X-Request-ID": REQUEST}, **bearer(pair))
    with Told.by(app) as events:
        await events.read_rows()
        first, second = [(await create_token(caller, "items:read", "items:write")).json() for _ in range(2)]
        for _ in range(2):
            await caller.delete(f"/users/me/tokens/{first['id']}")
            await caller.post("/revoke", data={"token": second["token"]})
        told = await events()
    who = {"user_id": user.id, "actor_id": user.id, "session_id": session.id}
    made = event("api_token_created", **who, token_id=first["id"], scopes=["items:read", "items:write"])
    assert told == [
        made,
        made | {"token_id": second["id"]},
        event("api_token_ended", **who, token_id=first["id"]),
        event("api_token_revoked", user_id=user.id, token_id=second["id"]),
    ]
    assert not any(text in str(told) for text in (first["token"], second["token"], second["hint"]))
    assert client.base_url.host == "test"
