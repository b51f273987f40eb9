"""The start of the program: the question whether there is anything to migrate, and the libraries it does without."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.operations.migrations import MIGRATIONS, is_newest, migrate, newest_revisions
from app.settings import Settings
from tests.programs import ROOT, environment

LIBRARIES = ("alembic", "pygments", "redis", "zxcvbn")
LOADED = f"""
import sys
sys.modules["rich"] = None
import app.__main__, app.main
print([name for name in {LIBRARIES} if name in sys.modules])
"""


def test_the_newest_revision_is_the_one_that_alembic_finds() -> None:
    assert newest_revisions() == set(ScriptDirectory(str(MIGRATIONS)).get_heads())


def test_a_database_is_newest_once_it_is_migrated(empty_database_url: str) -> None:
    settings = Settings(secret_key="s" * 32, database_url=empty_database_url)
    assert not asyncio.run(is_newest(settings))
    migrate(empty_database_url)
    assert asyncio.run(is_newest(settings))
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = empty_database_url
    command.downgrade(config, "-1")
    assert not asyncio.run(is_newest(settings))


def test_a_database_that_cannot_be_opened_is_left_to_the_migrations(tmp_path: Path) -> None:
    settings = Settings(secret_key="s" * 32, database_url=f"sqlite:///{tmp_path}/nowhere/app.db")
    assert not asyncio.run(is_newest(settings))


@pytest.mark.slow
def test_a_start_imports_no_library_that_it_does_not_need() -> None:
    """Each of them would cost tens of milliseconds, and MiB."""
    command_line = [sys.executable, "-c", LOADED]
    ended = subprocess.run(command_line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
