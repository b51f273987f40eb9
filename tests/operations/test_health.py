"""A service that is alive and not ready: its database is away, or its jobs die."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from app.main import create_app
from app.settings import Settings
from tests.factories import SECRET, connect_to
from tests.problems import assert_problem


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sqlite:///{path}/empty.db", "the database is not migrated: run `just migrate`"),
        ("postgresql://nobody@127.0.0.1:1/nothing", "the database does not answer"),
    ],
    ids=["not migrated", "not there"],
)
async def test_a_service_without_its_database_logs_one_line_and_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, line: str
) -> None:
    app = create_app(Settings(secret_key=SECRET, database_url=url.format(path=tmp_path), jobs_in_process=False))
    async with connect_to(app) as client:
        assert sum(line in printed for printed in capsys.readouterr().out.splitlines()) == 1
        assert (await client.get("/health/live")).status_code == 200
        assert_problem(await client.get("/health/ready"), 503, "The database does not answer")


async def test_a_service_whose_jobs_die_again_and_again_is_not_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still answers. Without JOBS_IN_PROCESS the worker is another program, which has no say in this."""
    monkeypatch.setattr("app.database.background.FIRST_DELAY_SECONDS", 0.01)

    async def die(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.jobs.repository.JobRepository.claim", die)
    async with connect_to(create_app(settings)) as client:
        assert (await client.get("/health/ready")).status_code == 200
    async with connect_to(create_app(msgspec.structs.replace(settings, jobs_in_process=True))) as client:
        async with asyncio.timeout(20):
            while (answer := await client.get("/health/ready")).status_code == 200:  # noqa: ASYNC110 - as a balancer
                await asyncio.sleep(0.05)
        assert_problem(answer, 503, "The background jobs do not run")
        assert (await client.get("/health/live")).status_code == 200
