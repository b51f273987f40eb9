"""The migrations on both databases: up, down, several at once, and one that fails halfway."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from secrets import token_hex
from unicodedata import normalize

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, DateTime, bindparam, inspect, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from app.database.engine import driver_url
from app.operations.migrations import migrate
from tests.programs import ROOT, alembic, environment

TABLES = {"users", "sessions", "items"}

HALF = """
import sqlalchemy as sa
from alembic import op

revision = "half"
down_revision = "{head}"


def upgrade():
    op.create_table("first", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO nowhere VALUES (1)")


def downgrade():
    op.drop_table("first")
"""


def config(url: str, *more: Path) -> Config:
    """Return Alembic's configuration for one database, with more folders of revisions."""
    settings = Config(ROOT / "alembic.ini", stdout=StringIO())
    folders = [str(folder) for folder in (ROOT / "migrations" / "versions", *more)]
    settings.set_main_option("version_locations", os.pathsep.join(folders))
    settings.attributes["url"] = url
    return settings


def schema(url: str) -> dict[str, list[str]]:
    """Return the columns of each table, and the indexes and constraints that have names."""

    def read(connection: Connection) -> dict[str, list[str]]:
        inspector = inspect(connection)
        return {
            table: sorted(
                [f"{column['name']} {column['type']!r} {column['nullable']}" for column in inspector.get_columns(table)]
                + [str(index["name"]) for index in inspector.get_indexes(table)]
                + [str(constraint["name"]) for constraint in inspector.get_unique_constraints(table)]
                + [str(key["name"]) for key in inspector.get_foreign_keys(table)]
            )
            for table in inspector.get_table_names()
        }

    async def connect() -> dict[str, list[str]]:
        engine = create_async_engine(driver_url(url))
        async with engine.connect() as connection:
            found = await connection.run_sync(read)
        await engine.dispose()
        return found

    return asyncio.run(connect())


def revision_of(url: str) -> str | None:
    """Return the revision that a database is at."""

    async def connect() -> str | None:
        engine = create_async_engine(driver_url(url))
        async with engine.connect() as connection:
            revision: str | None = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        await engine.dispose()
        return revision

    return asyncio.run(connect())


def test_up_down_and_up_again_ends_where_it_began(empty_database_url: str) -> None:
    """Each downgrade takes back what its upgrade did, and nothing is left at the bottom."""
    migrate(empty_database_url)
    first = schema(empty_database_url)
    assert first.keys() >= TABLES
    command.downgrade(config(empty_database_url), "base")
    assert schema(empty_database_url).keys() <= {"alembic_version", "sqlite_sequence"}
    migrate(empty_database_url)
    assert schema(empty_database_url) == first


@pytest.mark.slow
def test_each_step_down_can_be_taken_up_again(empty_database_url: str) -> None:
    migrate(empty_database_url)
    settings = config(empty_database_url)
    for script in ScriptDirectory.from_config(settings).walk_revisions():
        above, below = schema(empty_database_url), script.down_revision or "base"
        assert isinstance(below, str)
        command.downgrade(settings, below)
        command.upgrade(settings, script.revision)
        assert schema(empty_database_url) == above
        command.downgrade(settings, below)


def test_the_models_say_what_the_migrations_do(empty_database_url: str) -> None:
    """`alembic check` finds nothing to add."""
    migrate(empty_database_url)
    command.check(config(empty_database_url))


def test_what_was_stored_in_another_unicode_form_is_found_after_the_upgrade(empty_database_url: str) -> None:
    """More rows than a batch has; those that are right already keep their text."""
    command.upgrade(config(empty_database_url), "93e1c5d8a24b")
    titles = {number: normalize("NFD", f"Caf\u00e9 한국 {number}") for number in range(1, 1_103)} | {7: "plain"}
    asyncio.run(fill_items(empty_database_url, titles))
    migrate(empty_database_url)
    texts = asyncio.run(searched_texts(empty_database_url))
    assert texts.keys() == titles.keys()
    for number, folded in texts.items():
        assert folded == ("plain" if number == 7 else f"caf\u00e9 한국 {number}")


FIRST_USER = """
INSERT INTO users (id, username, email, username_key, email_key, hashed_password, is_active, is_superuser,
email_verified, created_at, updated_at) VALUES (1, 'a', 'a', 'a', 'a', 'x', true, false, false, :at, :at)
"""
ITEM = """
INSERT INTO items (id, owner_id, title, search_text, version, created_at, updated_at)
VALUES (:id, 1, :title, :folded, 1, :at, :at)
"""


async def fill_items(url: str, titles: Mapping[int, str]) -> None:
    """Add items with these titles by their ids, as the release before the upgrade added them."""
    engine, at = create_async_engine(driver_url(url)), datetime.now(UTC)
    rows = [{"id": number, "title": title, "folded": title.casefold(), "at": at} for number, title in titles.items()]
    async with engine.begin() as connection:
        moment = bindparam("at", type_=DateTime(timezone=True))
        await connection.execute(text(FIRST_USER).bindparams(moment), {"at": at})
        await connection.execute(text(ITEM).bindparams(moment), rows)
    await engine.dispose()


async def searched_texts(url: str) -> dict[int, str]:
    """Return the text that a search compares, of each item by its id."""
    engine = create_async_engine(driver_url(url))
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT id, search_text FROM items"))).all()
    await engine.dispose()
    return {row.id: row.search_text for row in rows}


@pytest.mark.slow
def test_three_processes_that_migrate_at_once_all_succeed(empty_database_url: str, tmp_path: Path) -> None:
    """One does it, and the others wait and find it done."""
    arguments = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"]
    variables = environment(DATABASE_URL=empty_database_url)
    processes = [subprocess.Popen(arguments, cwd=tmp_path, env=variables, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in processes] == [(b"", 0)] * 3
    assert schema(empty_database_url).keys() >= TABLES


def test_a_migration_that_fails_halfway_leaves_the_schema_as_it_was(empty_database_url: str, tmp_path: Path) -> None:
    """Its first statement is taken back with the rest, and the revision is the one before."""
    migrate(empty_database_url)
    before, head = schema(empty_database_url), revision_of(empty_database_url)
    (tmp_path / "half.py").write_text(HALF.format(head=head))
    settings = config(empty_database_url, tmp_path)
    with pytest.raises(SystemExit, match=r"can't be migrated by half: .*nowhere"):
        command.upgrade(settings, "head")
    assert schema(empty_database_url) == before
    assert revision_of(empty_database_url) == head


def test_all_of_several_migrations_or_none(empty_database_url: str, tmp_path: Path) -> None:
    """An empty database stays empty when the last of them fails."""
    scripts = ScriptDirectory.from_config(config(empty_database_url))
    (tmp_path / "half.py").write_text(HALF.format(head=scripts.get_current_head()))
    settings = config(empty_database_url, tmp_path)
    with pytest.raises(SystemExit, match=r"can't be migrated by half: .*nowhere"):
        command.upgrade(settings, "head")
    assert not schema(empty_database_url).keys() & TABLES


@pytest.mark.slow
def test_alembic_needs_no_secret(empty_database_url: str, tmp_path: Path) -> None:
    """Its own command line runs with DATABASE_URL alone."""
    ended = alembic(tmp_path, "upgrade", "head", url=empty_database_url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert schema(empty_database_url).keys() >= TABLES


def test_a_new_revision_is_empty_when_nothing_changed(empty_database_url: str, tmp_path: Path) -> None:
    """The project's own template writes it."""
    migrate(empty_database_url)
    settings = config(empty_database_url, tmp_path)
    command.revision(settings, "nothing", autogenerate=True, version_path=str(tmp_path))
    written = next(tmp_path.glob("*_nothing.py")).read_text()
    assert written.count("    pass\n") == 2
    assert '"""nothing' in written


def test_a_revision_has_the_indexes_of_a_new_table_also_of_expressions(empty_database_url: str, tmp_path: Path) -> None:
    """A table that isn't there is new to Alembic."""
    migrate(empty_database_url)
    asyncio.run(drop_items(empty_database_url))
    settings = config(empty_database_url)
    settings.set_main_option(
        "version_locations", os.pathsep.join([str(ROOT / "migrations" / "versions"), str(tmp_path)])
    )
    command.revision(settings, "items", autogenerate=True, version_path=str(tmp_path))
    written = next(tmp_path.glob("*_items.py")).read_text()
    assert (
        written.count("create_index('ix_items_owner_id_id', 'items', ['owner_id', sa.literal_column('(id + 0)')]") == 1
    )
    assert ("ix_items_search_text" in written) == empty_database_url.startswith("postgresql")


def test_a_revision_of_a_database_that_is_behind_says_what_to_run_first(
    empty_database_url: str, tmp_path: Path
) -> None:
    """A fresh clone has such a database."""
    settings = config(empty_database_url)
    with pytest.raises(SystemExit, match=r": Target database is not up to date; `just migrate` does that$"):
        command.revision(settings, "notes", autogenerate=True, version_path=str(tmp_path))
    assert list(tmp_path.glob("*.py")) == []


async def drop_items(url: str) -> None:
    """Drop one table."""
    engine = create_async_engine(driver_url(url))
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE items"))
    await engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://u:canary@127.0.0.1:1/n", "The database of DATABASE_URL can't be reached: "),
        ("sqlite:////nowhere/file", "The database of DATABASE_URL can't be reached: "),
        ("mysql://u:canary@h/n", "Configuration error: DATABASE_URL must be postgresql://"),
    ],
)
def test_a_database_that_cannot_be_migrated_is_one_clear_line(tmp_path: Path, url: str, line: str) -> None:
    """The line doesn't tell the password."""
    ended = alembic(tmp_path, "upgrade", "head", url=url)
    assert ended.returncode == 1
    assert ended.stderr.startswith(line)
    assert ended.stderr.count("\n") == 1
    assert "canary" not in ended.stderr


def administer(url: str, *statements: str) -> None:
    """Run statements on a database as its administrator, each in a transaction of its own."""

    async def run() -> None:
        engine = create_async_engine(driver_url(url), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
        await engine.dispose()

    asyncio.run(run())


def refusal(url: str) -> str:
    """The one line that ends the migration of a database."""
    with pytest.raises(SystemExit) as end:
        migrate(url)
    line = str(end.value)
    assert "\n" not in line
    return line.removeprefix("The database of DATABASE_URL can't be migrated")


OTHERS = "the tables are another program's: give the service a database or a schema of its own"


@pytest.mark.parametrize(
    ("statements", "parts"),
    [
        (["CREATE TABLE users (id integer)"], [" by 20261124_0500_users_and_sessions: ", "users", OTHERS]),
        (["CREATE TABLE alembic_version (version integer)"], [": ", "version_num"]),
        (
            [
                "CREATE TABLE alembic_version (version_num varchar(32))",
                "INSERT INTO alembic_version VALUES ('0123456789ab')",
            ],
            [": Can't locate revision identified by '0123456789ab'; it is of newer code, or of another program"],
        ),
    ],
    ids=["users", "alembic_version", "revision"],
)
def test_tables_of_another_program_are_one_clear_line(
    empty_database_url: str, statements: list[str], parts: list[str]
) -> None:
    """They stay as they were."""
    administer(empty_database_url, *statements)
    before = schema(empty_database_url)
    line = refusal(empty_database_url)
    assert [part for part in parts if part not in line] == []
    assert schema(empty_database_url) == before


NEWER = "UPDATE alembic_version SET version_num = '0123456789ab'"


def test_old_code_serves_on_the_schema_of_newer_code(own_database_url: str) -> None:
    """Migrations only add, so that an instance of the release before can start again; Alembic's commands refuse."""
    administer(own_database_url, NEWER, "ALTER TABLE items ADD COLUMN newer integer", "CREATE TABLE newer (id integer)")
    before = schema(own_database_url)
    with capture_logs() as logs:
        migrate(own_database_url)
    assert [(line["log_level"], line["revision"]) for line in logs] == [("warning", "0123456789ab")]
    assert schema(own_database_url) == before
    with pytest.raises(SystemExit, match="is of newer code, or of another program"):
        command.upgrade(config(own_database_url), "head")


@pytest.mark.parametrize(
    "statement", ["ALTER TABLE items DROP COLUMN description", "ALTER TABLE items RENAME TO things"]
)
def test_old_code_does_not_serve_on_a_schema_that_lacks_what_it_needs(own_database_url: str, statement: str) -> None:
    administer(own_database_url, NEWER, statement)
    assert "it is of newer code, or of another program" in refusal(own_database_url)


@pytest.fixture
def role() -> Iterator[str]:
    """A role without any right of its own; asked for before the database, it goes after that."""
    name = f"role_{token_hex(8)}"
    url = os.environ["TEST_DATABASE_URL"]
    administer(url, f"CREATE ROLE {name} LOGIN")
    yield name
    administer(url, f"DROP ROLE {name}")


@pytest.mark.usefixtures("anyio_backend")
@pytest.mark.direct("it is about the server's own roles")
def test_a_role_needs_what_the_docs_say_and_is_told_what_it_lacks(role: str, empty_postgresql_url: str) -> None:
    """To create tables in its schema; and pg_trgm, which an administrator adds, or a role that may create there."""
    url = make_url(empty_postgresql_url).set(username=role).render_as_string()
    assert refusal(url) == ": permission denied for schema public; docs/security.md says which rights the role needs"
    administer(empty_postgresql_url, f"GRANT CREATE ON SCHEMA public TO {role}")
    lacks = ': permission denied to create extension "pg_trgm"; docs/security.md says which rights the role needs'
    assert refusal(url) == f" by 20261124_0700_lists_of_items{lacks}"
    administer(empty_postgresql_url, "CREATE EXTENSION pg_trgm")
    migrate(url)
    assert schema(url).keys() >= TABLES


@pytest.mark.slow
def test_there_is_no_script_without_a_connection(tmp_path: Path) -> None:
    """The lock needs a connection."""
    ended = alembic(tmp_path, "upgrade", "head", "--sql", url=f"sqlite:///{tmp_path / 'file'}")
    assert (ended.returncode, ended.stderr) == (
        1,
        "Offline migrations are not supported: the lock needs a connection\n",
    )
