"""Costly searches of one user, on a list of a hundred thousand items: others notice little."""

import asyncio
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest

from tests.faults.production import Record, assert_available_or_503, connected, execute, production, signed_in

pytestmark = pytest.mark.faults

FILL = """
INSERT INTO items (owner_id, title, search_text, version, created_at, updated_at)
SELECT 1, 'umbrella ' || n, 'umbrella ' || n, 1, now(), now() FROM generate_series(1, 100000) AS n;
ANALYZE items;
"""
SECONDS = 5
AT_WORK = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'backend-api'
AND (state = 'active' OR state = 'idle in transaction')
"""


async def test_forty_counted_searches_at_once_stop_nobody_else(
    empty_postgresql_url: str, tmp_path: Path, record_property: Record
) -> None:
    """Others are answered, as are the user's own other requests."""
    with production(tmp_path, empty_postgresql_url) as (url, _):
        async with signed_in(url, "alice") as alice, signed_in(url, "bob") as bob:
            await execute(empty_postgresql_url, FILL)
            until, statuses, longest, most = monotonic() + SECONDS, Counter[int](), 0.0, 0

            async def search() -> None:
                while monotonic() < until:
                    answer = await alice.get("/items/", params={"q": "u", "count": "true", "sort": "title"})
                    assert_available_or_503(answer)
                    statuses[answer.status_code] += 1

            tasks = [asyncio.create_task(search()) for _ in range(40)]
            async with connected(empty_postgresql_url) as database:
                while monotonic() < until:
                    for client, path in ((bob, "/items/"), (bob, "/users/me"), (alice, "/users/me")):
                        started = monotonic()
                        assert (await client.get(path)).status_code == 200
                        longest = max(longest, monotonic() - started)
                    most = max(most, await database.fetchval(AT_WORK))
            await asyncio.gather(*tasks)
    record_property("searches answered", statuses[200])
    record_property("told to try again", statuses[503])
    record_property("longest answer to others in seconds", round(longest, 2))
    record_property("most connections at work", most)
    assert statuses[200] > 0
    assert longest < 2
    assert most < 10
