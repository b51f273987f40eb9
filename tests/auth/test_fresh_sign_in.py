"""Fresh sign-ins (RFC 9470): what governs how somebody signs in needs a proof of the last minutes."""

from datetime import datetime, timedelta

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import update

from app.auth.models import LoginSession
from app.database.models import now
from app.main import create_app
from app.settings import Settings
from tests.auth.oauth import Pair, bearer, execute, new_user, refreshed
from tests.factories import Statements, add_user, client_of, connect_to, log_in, on_sqlite
from tests.problems import assert_problem

DETAIL = "Sign in again: it was too long ago"


async def age(app: Litestar, minutes: float) -> None:
    """Move the last proof of every session into the past."""
    await execute(app, update(LoginSession).values(authenticated_at=now() - timedelta(minutes=minutes)))


async def delete_account(client: AsyncClient, pair: Pair) -> int:
    """Ask for what needs a fresh sign-in, check a refusal, and return the status."""
    answer = await client.delete("/users/me", headers=bearer(pair))
    if answer.status_code == 401:
        assert_problem(answer, 401, DETAIL)
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_user_authentication", max_age="600"'
    return answer.status_code


async def test_after_ten_minutes_a_sign_in_is_no_longer_fresh(app: Litestar, client: AsyncClient) -> None:
    """All else goes on, and another sign-in is fresh."""
    pair = await new_user(app)
    await age(app, 10.1)
    assert await delete_account(client, pair) == 401
    assert (await client.get("/users/me", headers=bearer(pair))).status_code == 200
    again: Pair = (await log_in(client, "alice")).json()
    assert await delete_account(client, pair) == 401
    assert await delete_account(client, again) == 204


async def test_a_refresh_makes_nothing_fresh(app: Litestar, client: AsyncClient) -> None:
    pair = await new_user(app)
    await age(app, 10.1)
    pair = await refreshed(client, pair)
    assert await delete_account(client, pair) == 401
    await age(app, 9.5)
    assert await delete_account(client, await refreshed(client, pair)) == 204


async def test_a_session_of_the_release_before_was_proved_when_it_began(app: Litestar, client: AsyncClient) -> None:
    """That release has left the column empty."""
    pair = await new_user(app)
    began = now() - timedelta(minutes=11)
    await execute(app, update(LoginSession).values(authenticated_at=None, created_at=began))
    assert await delete_account(client, pair) == 401
    (session,) = (await client.get("/users/me/sessions", headers=bearer(pair))).json()
    assert session["auth_time"] == session["created_at"]
    await execute(app, update(LoginSession).values(created_at=now()))
    assert await delete_account(client, pair) == 204


async def test_the_list_of_sessions_says_how_and_when_each_was_proved(app: Litestar, client: AsyncClient) -> None:
    pair = await new_user(app)
    await age(app, 90)
    (session,) = (await client.get("/users/me/sessions", headers=bearer(pair))).json()
    assert session["amr"] == ["pwd"]
    proved, began = (datetime.fromisoformat(session[name]) for name in ("auth_time", "created_at"))
    assert timedelta(minutes=89) <= began - proved <= timedelta(minutes=91)
    assert proved.second == proved.microsecond == 0


@on_sqlite
@pytest.mark.parametrize(("minutes", "age_minutes", "status"), [(1, 1.1, 401), (1440, 1439, 204)])
async def test_the_minutes_are_a_setting(settings: Settings, minutes: int, age_minutes: float, status: int) -> None:
    app = create_app(replace(settings, fresh_sign_in_minutes=minutes))
    async with connect_to(app) as client:
        pair = await new_user(app)
        await age(app, age_minutes)
        answer = await client.delete("/users/me", headers=bearer(pair))
        assert answer.status_code == status
        if status == 401:
            assert f'max_age="{minutes * 60}"' in answer.headers["WWW-Authenticate"]


@on_sqlite
async def test_who_may_not_at_all_is_not_told_to_sign_in_again(app: Litestar, client: AsyncClient) -> None:
    """A narrowed session wouldn't be let in after that either."""
    pair = await new_user(app, scope="account:write")
    await age(app, 11)
    assert_problem(await client.delete("/users/me", headers=bearer(pair)), 403, "Not allowed with this token")


@pytest.mark.usefixtures("client")
async def test_no_statement_is_added_by_it(app: Litestar, statements: Statements) -> None:
    """The guard's one statement reads the time, and a refusal costs nothing else."""
    await add_user(app, "bob")
    pair = await new_user(app)
    await age(app, 11)
    statements.clear()
    await client_of(app, **bearer(pair)).delete("/users/me")
    assert len(statements) == 1
