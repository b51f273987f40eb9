"""Old and new code side by side, while the new code's migration adds to the schema."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from httpx import AsyncClient

from app.database.status import revision
from tests.factories import open_database
from tests.faults.production import Record, production, signed_in
from tests.programs import ROOT

pytestmark = pytest.mark.faults
T = TypeVar("T")

ENOUGH_ANSWERS = 500
LONGEST_SECONDS = 120
EXPANSION = """
import sqlalchemy as sa
from alembic import op

revision = "expansion"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("note", sa.String(200), nullable=True))
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text))
"""
LAST_COLUMN = "    search_text: Mapped[str] = mapped_column(Text)\n"
NEW_COLUMN = "    note: Mapped[str | None] = mapped_column(String(200))\n"


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """A checkout with one more column and one more table, and the migration that adds them."""
    checkout = tmp_path / "next"
    checkout.mkdir()
    shutil.copy(ROOT / "alembic.ini", checkout)
    for name in ("app", "migrations"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    head = ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_current_head()
    (checkout / "migrations" / "versions" / "expansion.py").write_text(EXPANSION.format(head=head))
    models = checkout / "app" / "items" / "models.py"
    models.write_text(models.read_text().replace(LAST_COLUMN, LAST_COLUMN + NEW_COLUMN))
    assert NEW_COLUMN in models.read_text()
    return checkout


class Users:
    """Clients that do what users do, over and over, and accept no answer but a success."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.enough = {release: asyncio.Event() for release in ("old", "new")}
        self.stopping = False

    async def work(self, client: AsyncClient, release: str) -> None:
        """Create an item, change it, read it, list it and delete it, until the block has ended."""
        while not self.stopping:
            created = await client.post("/items/", json={"title": release})
            path = created.headers["Location"]
            changed = await client.patch(path, json={"description": "changed"})
            answers = [created, changed, *[await client.get(path) for path in (path, "/items/", "/users/me")]]
            answers.append(await client.delete(path))
            for answer in answers:
                assert answer.is_success, answer.text
            self.answers[release] += len(answers)
            if self.answers[release] >= ENOUGH_ANSWERS:
                self.enough[release].set()

    async def wait_for(self, release: str) -> None:
        """Wait until a release has given enough answers, however long that takes on this machine."""
        async with asyncio.timeout(LONGEST_SECONDS):
            await self.enough[release].wait()

    @asynccontextmanager
    async def of(self, client: AsyncClient, release: str) -> AsyncIterator[None]:
        """Run four clients of a release beside the block."""
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self.work(client, release))
            try:
                yield
            finally:
                self.stopping = True


async def test_old_and_new_code_side_by_side_answer_everything(
    empty_database_url: str, next_release: Path, tmp_path: Path, record_property: Record
) -> None:
    """The new release migrates under load when it starts beside the old one, and no request of either fails."""
    settings = {"PUBLIC_URL": "https://api.example.org"}
    release = production(tmp_path / "new", empty_database_url, PYTHONPATH=str(next_release), **settings)
    users = Users()
    with production(tmp_path / "old", empty_database_url, **settings) as (old_url, _):
        async with signed_in(old_url) as old, users.of(old, "old"):
            await users.wait_for("old")
            async with (
                entered(release) as (new_url, _),
                AsyncClient(base_url=new_url, headers=old.headers, timeout=30) as new,
                users.of(new, "new"),
            ):
                before = users.answers["old"]
                await users.wait_for("new")
                assert users.answers["old"] > before
    assert await revision_of(empty_database_url) == "expansion"
    record_property("answers", dict(users.answers))
    record_property("other than 2xx", 0)


@asynccontextmanager
async def entered(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a context manager in a thread, so that the event loop goes on meanwhile."""
    entered = await asyncio.to_thread(manager.__enter__)
    try:
        yield entered
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def revision_of(url: str) -> str | None:
    """Return the revision that a database is at."""
    async with open_database(url) as database:
        return await revision(database)
