"""The copy from SQLite to PostgreSQL: every row arrives, or none does."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from anyio import to_thread
from litestar import Litestar
from sqlalchemy import Column, insert, make_url, select

from app.database.engine import driver_url
from app.database.models import Base
from app.http.idempotency.models import StoredAnswer
from app.items.models import Item
from app.jobs.models import Job
from app.main import create_app
from app.operations.copying import CopyError, copy_database
from app.settings import Settings
from tests.factories import (
    PASSWORD,
    SECRET,
    People,
    add_user,
    client_of,
    connect_to,
    create_item,
    log_in,
    open_database,
    parts_of,
    register,
    token_of,
)
from tests.operations.cli import litestar

pytestmark = pytest.mark.direct("whose command is for the server itself")

LAST_CENTURY = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
FAR = datetime(9999, 12, 31, tzinfo=UTC)
UNICODE = "Regenschirm ☂️ עברית \U0001f302 %s $1 \\N \t\n\"'"


def application(url: str) -> Litestar:
    """Return the service on one of the two databases, with the same secret."""
    return create_app(Settings(secret_key=SECRET, database_url=url, jobs_in_process=False))


@pytest.fixture
def old(sqlite_url: str) -> Litestar:
    """The service on the database that is copied."""
    return application(sqlite_url)


@pytest.fixture
def new(postgresql_url: str) -> Litestar:
    """The service on the database that is copied into."""
    return application(postgresql_url)


@pytest.fixture
async def filled_url(old: Litestar, sqlite_url: str) -> str:
    """An SQLite database with rows in every table."""
    async with connect_to(old) as client:
        await fill(old)
        await People(old, client).sign_in("bob")
    return sqlite_url


async def copy(source: str, target: str) -> dict[str, int]:
    """Copy one database into another; return the number of rows of each table that it tells."""
    counts: dict[str, int] = {}
    await copy_database(source, driver_url(target), counts.__setitem__)
    return counts


def change(url: str, statement: str) -> None:
    """Run a statement on an SQLite database."""
    with closing(sqlite3.connect(make_url(url).database or "", isolation_level=None)) as file:
        file.execute(statement)


async def rows_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables, as Python's values."""
    async with open_database(url) as database, database.reading() as session:
        found = {
            table.name: sorted(tuple(row) for row in await session.execute(select(table)))
            for table in Base.metadata.sorted_tables
            if table.name != "jobs"  # whose payload can't be sorted
        }
        found["jobs"] = [tuple(row) for row in await session.execute(select(Job.__table__).order_by(Job.id))]
    return found


async def fill(app: Litestar) -> None:
    """Add a row to every table, with values of every kind: zones, JSON, NULL, false and true, bytes, all of Unicode."""
    user = await add_user(app, "alice", is_superuser=True, created_at=LAST_CENTURY)
    await add_user(app, "Ünïcode", is_active=False)
    offset = FAR.astimezone(UTC) - timedelta(hours=5, microseconds=1)
    async with parts_of(app).database.transaction() as session:
        await session.execute(
            insert(Item),
            [
                {"owner_id": user.id, "title": UNICODE, "description": None, "search_text": ""},
                {"owner_id": user.id, "title": "", "description": UNICODE, "search_text": UNICODE, "version": 2**40},
            ],
        )
        await session.execute(
            insert(Job),
            [
                {"kind": "a", "payload": {"id": 1, "name": UNICODE}, "run_at": LAST_CENTURY, "key": None},
                {"kind": "b", "payload": {}, "run_at": offset, "failed_at": offset, "key": "b", "last_error": "E"},
            ],
        )
        answer = {"request": bytes(range(32)), "content": b"\0" * 32, "answer": b"\xff\0", "created_at": FAR}
        await session.execute(insert(StoredAnswer), [{"user_id": user.id} | answer])
        for table in Base.metadata.sorted_tables:
            if not (await session.execute(select(table))).first():
                await session.execute(insert(table), [{column.name: value_of(column) for column in table.c}])


def value_of(column: Column[Any]) -> object:
    """Return a value for a column of a table that this file doesn't name: 1 for a key, which the other tables have."""
    length = getattr(column.type, "length", None)
    values = {int: 1, str: UNICODE[:length], bytes: b"\0", bool: True, datetime: FAR, object: {}}  # JSON is any object
    return values[column.type.python_type]


async def test_every_value_of_every_table_arrives(filled_url: str, postgresql_url: str) -> None:
    """Times keep their microseconds, texts and bytes every character, and NULL stays NULL."""
    counts = await copy(filled_url, postgresql_url)
    before = await rows_of(filled_url)
    assert all(before.values())
    assert await rows_of(postgresql_url) == before
    assert counts == {name: len(rows) for name, rows in before.items()}


async def test_who_was_signed_in_stays_signed_in_and_new_rows_take_new_keys(
    old: Litestar, new: Litestar, sqlite_url: str, postgresql_url: str
) -> None:
    async with connect_to(old) as client:
        alice = await People(old, client).sign_in("alice")
        first = (await create_item(alice, "first")).json()
    await copy(sqlite_url, postgresql_url)
    async with connect_to(new) as client:
        alice = client_of(new, Authorization=f"Bearer {token_of(alice)}")
        assert (await alice.get("/items/")).json() == [first]
        assert (await create_item(alice, "second")).json()["id"] == first["id"] + 1
        assert (await register(client, "bob")).json()["id"] == 2
        assert (await log_in(client, "alice")).status_code == 200


async def test_the_key_of_a_deleted_row_is_never_handed_out_again(
    old: Litestar, new: Litestar, sqlite_url: str, postgresql_url: str
) -> None:
    """A token of a deleted user would name the next user otherwise."""
    async with connect_to(old) as client:
        alice = await People(old, client).sign_in("alice")
        assert (await create_item(alice)).status_code == 201
        assert (await alice.request("DELETE", "/users/me", json={"password": PASSWORD})).is_success
    await copy(sqlite_url, postgresql_url)
    async with connect_to(new) as client:
        bob = await People(new, client).sign_in("bob")
        assert (await bob.get("/users/me")).json()["id"] == 2
        assert (await create_item(bob)).json()["id"] == 2


async def test_a_target_with_rows_is_refused_and_gets_no_others(
    new: Litestar, sqlite_url: str, postgresql_url: str
) -> None:
    async with connect_to(new):
        await add_user(new, "alice")
    with pytest.raises(CopyError, match="The target must be empty, and has rows in users"):
        await copy(sqlite_url, postgresql_url)
    assert len((await rows_of(postgresql_url))["users"]) == 1


@pytest.mark.parametrize(
    ("statement", "revision"),
    [("UPDATE alembic_version SET version_num = 'other'", "other"), ("DROP TABLE alembic_version", "None")],
    ids=["another revision", "never migrated"],
)
async def test_a_source_that_is_not_up_to_date_is_refused(
    sqlite_url: str, postgresql_url: str, statement: str, revision: str
) -> None:
    change(sqlite_url, statement)
    with pytest.raises(CopyError, match=f"The source is at revision {revision}, and must be migrated to "):
        await copy(sqlite_url, postgresql_url)


async def test_a_target_that_was_never_migrated_is_refused(sqlite_url: str, empty_postgresql_url: str) -> None:
    with pytest.raises(CopyError, match="The target is at revision None, and must be migrated to "):
        await copy(sqlite_url, empty_postgresql_url)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("UPDATE items SET title = printf('%.*c', 201, 'x') WHERE id = 2", "items: value too long for type character"),
        ("UPDATE items SET title = char(0) WHERE id = 2", "items: invalid byte sequence"),
        ("UPDATE items SET version = 'one' WHERE id = 2", "items: "),
    ],
    ids=["too long", "NUL", "no number"],
)
async def test_a_value_that_only_sqlite_takes_stops_the_whole_copy(
    filled_url: str, postgresql_url: str, statement: str, line: str
) -> None:
    """The error names the value's table, and the rows that were copied before it are taken back."""
    change(filled_url, statement)
    with pytest.raises(CopyError) as refusal:
        await copy(filled_url, postgresql_url)
    assert str(refusal.value).startswith(f"Nothing was copied: {line}")
    assert "\n" not in str(refusal.value)
    assert not any((await rows_of(postgresql_url)).values())


async def test_a_target_that_somebody_writes_to_is_left_alone(
    sqlite_url: str, postgresql_url: str, cleaner: asyncpg.Connection
) -> None:
    """The other transaction may be about to commit rows."""
    async with cleaner.transaction():
        await cleaner.execute("LOCK TABLE items IN ROW EXCLUSIVE MODE")
        with pytest.raises(CopyError, match=r"Nothing was copied: .*lock timeout"):
            await copy(sqlite_url, postgresql_url)


async def test_the_source_is_only_read(sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    file = tmp_path / "read only #1?.sqlite3"
    shutil.copy(make_url(sqlite_url).database or "", file)
    before = file.read_bytes()
    await copy(f"sqlite:///{file}".replace("?", "%3F"), postgresql_url)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "source",
    [
        "file.sqlite3",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///{folder}/nowhere",
        "postgresql://u:canary@h/n",
        "sqlite:////",
    ],
)
async def test_a_source_that_is_no_sqlite_file_is_refused_and_not_made(
    postgresql_url: str, tmp_path: Path, source: str
) -> None:
    with pytest.raises(CopyError, match=r"^The source must be sqlite:///file, with a file that is there$"):
        await copy(source.format(folder=tmp_path), postgresql_url)
    assert not (tmp_path / "nowhere").exists()


async def test_a_file_that_is_no_database_is_refused(postgresql_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database")
    with pytest.raises(CopyError, match=r"^Nothing was copied: file is not a database$"):
        await copy(f"sqlite:///{tmp_path / 'file'}", postgresql_url)


async def test_the_command_prints_one_line_for_each_table_and_refuses_a_second_time(
    filled_url: str, postgresql_url: str
) -> None:
    status, output = await to_thread.run_sync(litestar, postgresql_url, "copy-database", filled_url)
    assert status == 0
    counts = {name: len(rows) for name, rows in (await rows_of(filled_url)).items()}
    assert dict(line.split() for line in output.splitlines()) == {name: str(count) for name, count in counts.items()}
    status, output = await to_thread.run_sync(litestar, postgresql_url, "copy-database", filled_url)
    assert status == 1
    assert output.startswith("The target must be empty, and has rows in ")
    assert output.count("\n") == 1


def test_the_command_refuses_a_target_that_is_not_postgresql(sqlite_url: str) -> None:
    status, output = litestar(sqlite_url, "copy-database", sqlite_url)
    assert (status, output) == (1, "DATABASE_URL must be the PostgreSQL database to copy into\n")


def test_the_command_names_no_password_of_a_target_that_is_away(sqlite_url: str) -> None:
    status, output = litestar("postgresql://u:canary@127.0.0.1:1/n", "copy-database", sqlite_url)
    assert status == 1
    assert output.startswith("Nothing was copied: ")
    assert output.count("\n") == 1
    assert "canary" not in output
