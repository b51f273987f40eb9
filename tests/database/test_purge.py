"""Deletion of many rows in batches."""

from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import DBAPIError

from app.auth.models import LoginSession
from app.auth.repository import SessionRepository
from app.database import engine, purge
from app.database.models import now
from app.database.sessions import Database
from app.users.models import User
from tests.factories import Statements, on_postgresql, open_database

ROWS = 250


@pytest.fixture
async def sessions(database: Database) -> SessionRepository:
    """Sessions of which many have expired, and one hasn't."""
    moment = now()
    rows = [
        {"id": number + 1, "user_id": 1, "device": "", "address": "", "expires_at": moment - timedelta(days=1)}
        for number in range(ROWS)
    ]
    rows.append({**rows[0], "id": ROWS + 1, "expires_at": moment + timedelta(days=1)})
    async with database.transaction() as transaction:
        user = User(
            username="a", username_key="a", email="a@example.org", email_key="a@example.org", hashed_password=""
        )
        transaction.add(user)
        await transaction.flush()
        await transaction.execute(insert(LoginSession), [{**row, "user_id": user.id} for row in rows])
    return SessionRepository(database)


async def count(database: Database) -> int:
    """Return how many sessions there are."""
    rows = await database.fetch(select(func.count()).select_from(LoginSession), {})
    return rows[0][0]


async def test_a_purge_deletes_what_has_expired_in_batches(
    sessions: SessionRepository, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "BATCH", 100)
    assert await sessions.purge() == ROWS
    assert [statement.split()[0] for statement in statements].count("DELETE") == 3
    assert statements.count("COMMIT") == 3
    assert await count(sessions.database) == 1


async def test_batches_get_smaller_when_they_fail(sessions: SessionRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BATCH", 400)
    sizes = []
    delete_batch = purge.delete_batch

    async def slow(database: Database, model: type[LoginSession], which: object, size: int) -> int:
        sizes.append(size)
        if size > 50:
            raise TimeoutError
        return await delete_batch(database, model, which, size)  # type: ignore[arg-type] # passed on as it came

    monkeypatch.setattr(purge, "delete_batch", slow)
    assert await sessions.purge() == ROWS
    assert sizes[:3] == [400, 100, 25]
    assert await count(sessions.database) == 1


@on_postgresql
async def test_a_purge_whose_smallest_batch_fails_is_an_error(
    sessions: SessionRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that purges is then tried again, and its failure is logged."""
    async with sessions.database.transaction() as other:
        await other.execute(select(LoginSession).with_for_update())
        monkeypatch.setitem(engine.POSTGRESQL_SETTINGS, "lock_timeout", "50")
        async with open_database(sessions.database.engine.url.render_as_string(hide_password=False)) as hurried:
            with pytest.raises(DBAPIError):
                await SessionRepository(hurried).purge()


async def test_a_purge_ends_in_time_and_keeps_what_it_has_done(
    sessions: SessionRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0, 1, 2, purge.WITHIN_SECONDS + 1])
    monkeypatch.setattr(purge, "BATCH", 100)
    monkeypatch.setattr(purge, "monotonic", lambda: next(clock))
    assert await sessions.purge() == 200
    assert await count(sessions.database) == 51
