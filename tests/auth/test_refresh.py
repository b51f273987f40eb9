"""Refreshing a login: rotation, retries, reuse, races and lifetimes."""

import asyncio
from datetime import timedelta

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import delete, func, select, update

from app.auth.models import LoginSession
from app.database.models import now
from app.main import create_app
from app.security.tokens import REFRESH, Tokens
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import Pair, bearer, execute, fetch, new_user, open_session, refresh, refreshed, status_of
from tests.factories import add_user, connect_to

GENERATION = select(LoginSession.generation)
SESSIONS = select(func.count()).select_from(LoginSession)


async def test_refreshing_gives_a_new_pair_that_works(app: Litestar, client: AsyncClient) -> None:
    """The answer has the shape of a login's, and nothing may keep it."""
    first = await new_user(app)
    answer = await refresh(client, first)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    second = answer.json()
    assert second.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert second["token_type"] == "bearer"
    assert second["expires_in"] == 30 * 60
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token"] != first["refresh_token"]
    assert await status_of(client, second) == 200
    assert (await refresh(client, second)).status_code == 200


async def test_refreshing_stays_in_one_session(app: Litestar, client: AsyncClient) -> None:
    """There is one row for each session, however often it is refreshed."""
    pair = await new_user(app)
    for _ in range(3):
        pair = await refreshed(client, pair)
    assert [tuple(row) for row in await fetch(app, GENERATION)] == [(3,)]


async def test_what_a_client_library_adds_is_ignored(app: Litestar, client: AsyncClient) -> None:
    """It may add a client's id and secret, in the form or by Basic (RFC 6749, section 3.2)."""
    pair = await new_user(app)
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "client_id": "x"}
    answer = await client.post("/token", data={**form, "client_secret": "y"}, auth=("x", "y"))
    assert answer.status_code == 200


async def test_the_same_token_again_within_ten_seconds_gets_a_successor_that_works(
    app: Litestar, client: AsyncClient
) -> None:
    """A client that lost an answer goes on with either successor."""
    first = await new_user(app)
    lost = await refreshed(client, first)
    retried = await refreshed(client, first)
    assert await status_of(client, retried) == 200
    await refreshed(client, retried)
    assert (await refresh(client, lost)).status_code == 200


async def test_the_predecessor_after_ten_seconds_ends_the_session(app: Litestar, client: AsyncClient) -> None:
    """Its sender isn't a client that lost an answer; the ending stands although the answer is an error."""
    first = await new_user(app)
    second = await refreshed(client, first)
    await execute(app, update(LoginSession).values(refreshed_at=now() - timedelta(seconds=11)))
    answer = await refresh(client, first)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
    assert answer.json()["status"] == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    await check_ended(app, client, second)


@pytest.mark.parametrize("generation", [0, 1, 2])
async def test_any_older_token_of_four_generations_ends_the_session(
    app: Litestar, client: AsyncClient, generation: int
) -> None:
    """Only the immediate predecessor may be a retry, however soon the token comes."""
    pairs = [await new_user(app)]
    for _ in range(4):
        pairs.append(await refreshed(client, pairs[-1]))
    assert (await refresh(client, pairs[generation])).json()["error"] == "invalid_grant"
    for pair in pairs:
        await check_ended(app, client, pair)


async def test_reuse_ends_one_session_only(app: Litestar, client: AsyncClient) -> None:
    """The user's other logins and other users go on."""
    user = await add_user(app, "alice")
    stolen, other = await open_session(app, user.id), await open_session(app, user.id)
    bob = await new_user(app, "bob")
    await refreshed(client, await refreshed(client, stolen))
    assert (await refresh(client, stolen)).status_code == 400
    assert [await status_of(client, pair) for pair in (stolen, other, bob)] == [401, 200, 200]


async def test_twelve_refreshes_at_once_leave_the_session_alive(app: Litestar, client: AsyncClient) -> None:
    """One of them moves the session on, the others are retries, and each of their successors works."""
    first = await new_user(app)
    answers = await asyncio.gather(*(refresh(client, first) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert [tuple(row) for row in await fetch(app, GENERATION)] == [(1,)]
    for answer in answers:
        assert await status_of(client, answer.json()) == 200
    assert (await refresh(client, answers[-1].json())).status_code == 200


async def test_reuse_by_twelve_at_once_ends_the_session(app: Litestar, client: AsyncClient) -> None:
    """Each of them gets the same refusal."""
    first = await new_user(app)
    last = await refreshed(client, await refreshed(client, first))
    answers = await asyncio.gather(*(refresh(client, first) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {400}
    await check_ended(app, client, last)


async def test_reuse_and_refresh_at_once_end_the_session(app: Litestar, client: AsyncClient) -> None:
    """In either order, the thief and the owner are both out, and nothing fails."""
    first = await new_user(app)
    last = await refreshed(client, await refreshed(client, first))
    tokens = [first, last] * 4
    answers = await asyncio.gather(*(refresh(client, token) for token in tokens))
    assert {answer.status_code for answer in answers} <= {200, 400}
    await check_ended(app, client, last)


async def test_a_session_that_nobody_refreshes_ends_after_14_days(app: Litestar, client: AsyncClient) -> None:
    """A refresh begins the 14 days anew."""
    pair = await new_user(app)
    assert await left(app) == pytest.approx(timedelta(days=14), abs=timedelta(seconds=5))
    await execute(app, update(LoginSession).values(refreshed_at=now() - timedelta(days=13), expires_at=in_days(1)))
    pair = await refreshed(client, pair)
    assert await left(app) == pytest.approx(timedelta(days=14), abs=timedelta(seconds=5))
    await execute(app, update(LoginSession).values(expires_at=now() - timedelta(seconds=1)))
    assert (await refresh(client, pair)).json()["error"] == "invalid_grant"
    assert await status_of(client, pair) == 401


async def test_a_session_ends_after_90_days_however_often_it_is_refreshed(
    app: Litestar, client: AsyncClient, tokens: Tokens
) -> None:
    """Tokens that are issued on the last day are valid no longer than the session."""
    pair = await new_user(app)
    created = now() - timedelta(days=90) + timedelta(minutes=10)
    await execute(app, update(LoginSession).values(created_at=created))
    pair = await refreshed(client, pair)
    assert await left(app) == pytest.approx(timedelta(minutes=10), abs=timedelta(seconds=5))
    assert 590 <= pair["expires_in"] <= 600
    claims = tokens.read(REFRESH, pair["refresh_token"])
    assert claims.exp - claims.iat <= 600


async def test_the_lifetimes_are_settings_in_days(settings: Settings) -> None:
    app = create_app(replace(settings, refresh_token_idle_days=3, refresh_token_absolute_days=2))
    async with connect_to(app):
        await new_user(app)
        assert await left(app) == pytest.approx(timedelta(days=2), abs=timedelta(seconds=5))


async def test_a_token_that_has_expired_is_refused(app: Litestar, client: AsyncClient, tokens: Tokens) -> None:
    """The clocks of two machines may differ by half a minute, not more."""
    user = await add_user(app, "alice")
    await open_session(app, user.id)
    (row,) = await fetch(app, select(LoginSession.id))
    expired = tokens.issue(REFRESH, user.id, timedelta(seconds=-31), sid=row.id)
    assert (await refresh(client, expired)).json()["error"] == "invalid_grant"
    assert (await fetch(app, SESSIONS))[0][0] == 1


async def test_a_tampered_token_is_refused(app: Litestar, client: AsyncClient) -> None:
    """The session isn't ended by it, or a stranger could end it."""
    pair = await new_user(app)
    other = await new_user(app, "bob")
    parts = pair["refresh_token"].split(".")
    for index, part in enumerate(other["refresh_token"].split(".")[1:], start=1):
        tampered = ".".join([*parts[:index], part, *parts[index + 1 :]])
        assert (await refresh(client, tampered)).json()["error"] == "invalid_grant"
    for token in ("", ".", "..", parts[0], ".".join(parts[:2]), ".".join([*parts, "x"]), "\N{SNOWMAN}", "a" * 9000):
        assert (await refresh(client, token)).status_code == 400
    assert (await refresh(client, pair)).status_code == 200


async def test_a_foreign_token_is_refused(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """Another service has signed it, for the very same session."""
    pair = await new_user(app)
    (row,) = await fetch(app, select(LoginSession.id, LoginSession.user_id))
    other = Tokens(secret="another-service-" + "x" * 32, algorithm="HS256", issuer=settings.url)
    foreign = other.issue(REFRESH, row.user_id, timedelta(days=1), sid=row.id)
    assert (await refresh(client, foreign)).json()["error"] == "invalid_grant"
    assert (await refresh(client, pair)).status_code == 200


async def test_a_token_of_another_users_session_is_refused(app: Litestar, client: AsyncClient, tokens: Tokens) -> None:
    """Subject and session must belong together; the session of the other user goes on."""
    alice = await new_user(app)
    bob = await add_user(app, "bob")
    (row,) = await fetch(app, select(LoginSession.id))
    mixed = tokens.issue(REFRESH, bob.id, timedelta(days=1), sid=row.id)
    assert (await refresh(client, mixed)).json()["error"] == "invalid_grant"
    assert (await refresh(client, alice)).status_code == 200


async def test_a_token_of_a_deleted_session_is_refused(app: Litestar, client: AsyncClient) -> None:
    """It doesn't bring the session back."""
    pair = await new_user(app)
    await execute(app, delete(LoginSession))
    assert (await refresh(client, pair)).json()["error"] == "invalid_grant"
    assert (await fetch(app, SESSIONS))[0][0] == 0


async def test_a_disabled_user_gets_no_new_pair(app: Litestar, client: AsyncClient) -> None:
    """The current token and its predecessor are both refused."""
    first = await new_user(app)
    second = await refreshed(client, first)
    await execute(app, update(User).values(is_active=False))
    assert (await refresh(client, first)).json()["error"] == "invalid_grant"
    assert (await refresh(client, second)).json()["error"] == "invalid_grant"


async def test_the_token_is_required(client: AsyncClient) -> None:
    """Without it, or with an empty one, the request is invalid (RFC 6749, section 5.2)."""
    for form in ({}, {"refresh_token": ""}):
        answer = await client.post("/token", data={"grant_type": "refresh_token", **form})
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"


async def check_ended(app: Litestar, client: AsyncClient, pair: Pair) -> None:
    """Check that no session is left, and that neither token of the pair is worth anything."""
    assert (await fetch(app, SESSIONS))[0][0] == 0
    answer = await client.get("/users/me", headers=bearer(pair))
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (await refresh(client, pair)).json()["error"] == "invalid_grant"


async def left(app: Litestar) -> timedelta:
    """Return the time that the only session still has."""
    (row,) = await fetch(app, select(LoginSession.expires_at))
    rest: timedelta = row.expires_at - now()
    return rest


def in_days(days: int) -> object:
    """Return the time in so many days."""
    return now() + timedelta(days=days)
