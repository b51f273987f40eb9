"""An instance opens no more connections than it is told, however many workers it has."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from httpx import AsyncClient
from sqlalchemy import make_url
from structlog.testing import capture_logs

from app.operations.health import log_connections
from tests.factories import SECRET, open_database, register
from tests.programs import service


async def open_connections(server: asyncpg.Connection, url: str) -> int:
    """Return the number of connections that the service has to a database."""
    count: int = await server.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'backend-api'",
        make_url(url).database,
    )
    return count


@pytest.mark.parametrize(("workers", "pool", "most"), [(1, 3, 3), (3, 7, 6)])
async def test_all_workers_together_stay_within_the_pool(
    postgresql_url: str,
    server: asyncpg.Connection,
    tmp_path: Path,
    free_tcp_port: int,
    *,
    workers: int,
    pool: int,
    most: int,
) -> None:
    """More requests come at once than there are connections, and each of them is served."""
    settings = {"SECRET_KEY": SECRET, "WORKERS": str(workers), "DATABASE_POOL_SIZE": str(pool)}
    with service(tmp_path, free_tcp_port, DATABASE_URL=postgresql_url, **settings):
        async with AsyncClient(base_url=f"http://127.0.0.1:{free_tcp_port}", timeout=30) as client:
            seen = 0
            for _ in range(5):
                answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(30)))
                assert {answer.status_code for answer in answers} == {200}
                seen = max(seen, await open_connections(server, postgresql_url))
            assert (await register(client, "alice")).status_code == 201
    assert workers <= seen <= most


async def test_more_connections_than_the_server_has_are_one_line_in_the_log(postgresql_url: str) -> None:
    """The tests' server has 300, three of them for superusers."""
    with capture_logs() as logs:
        async with open_database(postgresql_url, pool_size=1) as database:
            for connections in (297, 298):
                await log_connections(database, connections)
    [line] = [line for line in logs if "DATABASE_POOL_SIZE" in line["event"]]
    assert (line["connections"], line["limit"]) == (298, 297)


async def test_the_program_logs_that_line_once_and_not_in_each_worker(
    postgresql_url: str, tmp_path: Path, free_tcp_port: int
) -> None:
    settings = {"SECRET_KEY": SECRET, "WORKERS": "2", "DATABASE_POOL_SIZE": "900"}
    with service(tmp_path, free_tcp_port, DATABASE_URL=postgresql_url, **settings):
        assert (tmp_path / "out").read_text().count("DATABASE_POOL_SIZE is above the limit of the server") == 1
