"""Old and new code side by side, while the new one's migration adds to the schema."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from httpx import AsyncClient

from app.database.sessions import Database
from app.database.status import REVISION
from tests.faults.production import production, signed_in
from tests.programs import ROOT

pytestmark = pytest.mark.faults
T = TypeVar("T")
Record = Callable[[str, object], None]

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
    """Clients that do what users do, each over and over, and take nothing for an answer but a success."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.stopping = False

    async def work(self, client: AsyncClient, release: str) -> None:
        """Create an item, change it, read it, list it and delete it, until told to stop."""
        while not self.stopping:
            created = await client.post("/items/", json={"title": release})
            path = created.headers["Location"]
            changed = await client.patch(path, json={"description": "changed"})
            answers = [created, changed, *[await client.get(path) for path in (path, "/items/", "/users/me")]]
            answers.append(await client.delete(path))
            for answer in answers:
                assert answer.is_success, answer.text
            self.answers[release] += len(answers)

    @asynccontextmanager
    async def of(self, client: AsyncClient, release: str) -> AsyncIterator[None]:
        """Four of them at work, until the end of the block."""
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
    """The migration runs under load, when the new release starts beside the old one; no request fails."""
    settings = {"PUBLIC_URL": "https://api.example.org"}
    release = production(tmp_path / "new", empty_database_url, PYTHONPATH=str(next_release), **settings)
    users = Users()
    with production(tmp_path / "old", empty_database_url, **settings) as (old_url, _):
        async with signed_in(old_url) as old, users.of(old, "old"):
            await asyncio.sleep(0.5)
            async with (
                entered(release) as (new_url, _),
                AsyncClient(base_url=new_url, headers=old.headers, timeout=30) as new,
                users.of(new, "new"),
            ):
                await asyncio.sleep(2)
    assert await revision_of(empty_database_url) == "expansion"
    record_property("answers", dict(users.answers))
    record_property("other than 2xx", 0)
    assert min(users.answers.values()) > 100


@asynccontextmanager
async def entered(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave it in a thread, while what runs in the event loop goes on."""
    entered = await asyncio.to_thread(manager.__enter__)
    try:
        yield entered
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def revision_of(url: str) -> str:
    """The revision that a database is at."""
    database = Database(url)
    try:
        revision: str = (await database.fetch(REVISION, {}))[0][0]
        return revision
    finally:
        await database.close()
