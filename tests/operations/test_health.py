"""A service without its database: it is alive and not ready, and the operator is told why."""

from pathlib import Path

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
