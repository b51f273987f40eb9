"""Moving from SQLite to PostgreSQL: everything arrives, or nothing does."""

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from litestar import Litestar
from sqlalchemy import insert, make_url, select

from app.database.engine import driver_url
from app.database.models import Base
from app.database.sessions import Database
from app.http.idempotency.models import StoredAnswer
from app.items.models import Item
from app.jobs.models import Job
from app.main import create_app
from app.operations.copying import CopyError, copy_database
from app.settings import Settings
from tests.factories import SECRET, add_user, client_of, connect_to, create_item, log_in, register, token_of
from tests.factories import People as Users
from tests.operations.test_commands import litestar

pytestmark = pytest.mark.direct("whose command is for the server itself")

LAST_CENTURY = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
FAR = datetime(9999, 12, 31, tzinfo=UTC)
UNICODE = "Regenschirm ☂️ עברית \U0001f302 %s $1 \\N \t\n\"'"


def application(url: str, folder: Path) -> Litestar:
    """The service on one of the two databases, with the same secret."""
    return create_app(Settings(secret_key=SECRET, database_url=url, mail_dir=str(folder), jobs_in_process=False))


async def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, as Python's values."""
    database = Database(url)
    async with database.reading() as session:
        found = {
            table.name: sorted(tuple(row) for row in await session.execute(select(table)))
            for table in Base.metadata.sorted_tables
            if table.name != "jobs"  # whose payload can't be sorted
        }
        found["jobs"] = [tuple(row) for row in await session.execute(select(Job.__table__).order_by(Job.id))]
    await database.close()
    return found


async def fill(application: Litestar) -> None:
    """A row of every table, with a value of every kind: zones, JSON, NULL, false and true, bytes, all of Unicode."""
    user = await add_user(application, "alice", is_superuser=True, created_at=LAST_CENTURY)
    await add_user(application, "Ünïcode", is_active=False)
    offset = FAR.astimezone(UTC) - timedelta(hours=5, microseconds=1)
    database: Database = application.state.database
    async with database.transaction() as session:
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


async def test_every_value_of_every_table_arrives(sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    """And is what it was: to the microsecond, to the byte, and NULL where it was NULL."""
    old = application(sqlite_url, tmp_path)
    async with connect_to(old) as client:
        await fill(old)
        await Users(old, client).sign_in("bob")
    counts: dict[str, int] = {}
    await copy_database(sqlite_url, driver_url(postgresql_url), counts.__setitem__)
    before = await rows(sqlite_url)
    assert all(before.values())
    assert await rows(postgresql_url) == before
    assert counts == {name: len(of) for name, of in before.items()}


async def test_who_was_signed_in_stays_so_and_goes_on(sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    """With the token and the items of before; new rows take no key that was there."""
    old = application(sqlite_url, tmp_path)
    async with connect_to(old) as client:
        alice = await Users(old, client).sign_in("alice")
        first = (await create_item(alice, "first")).json()
    await copy_database(sqlite_url, driver_url(postgresql_url), lambda *_: None)
    new = application(postgresql_url, tmp_path)
    async with connect_to(new) as client:
        alice = client_of(new, Authorization=f"Bearer {token_of(alice)}")
        assert (await alice.get("/items/")).json() == [first]
        assert (await create_item(alice, "second")).json()["id"] == first["id"] + 1
        assert (await register(client, "bob")).json()["id"] == 2
        assert (await log_in(client, "alice")).status_code == 200


async def test_a_key_that_was_once_handed_out_is_never_handed_out_again(
    sqlite_url: str, postgresql_url: str, tmp_path: Path
) -> None:
    """Also when its row is gone: a token of its user may not be."""
    old = application(sqlite_url, tmp_path)
    async with connect_to(old) as client:
        alice = await Users(old, client).sign_in("alice")
        assert (await create_item(alice)).status_code == 201
        assert (
            await alice.request("DELETE", "/users/me", json={"password": "correct horse battery staple"})
        ).is_success
    await copy_database(sqlite_url, driver_url(postgresql_url), lambda *_: None)
    new = application(postgresql_url, tmp_path)
    async with connect_to(new) as client:
        bob = await Users(new, client).sign_in("bob")
        assert (await bob.get("/users/me")).json()["id"] == 2
        assert (await create_item(bob)).json()["id"] == 2


async def test_a_target_with_rows_is_refused(sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    """It keeps them, and gets no others."""
    new = application(postgresql_url, tmp_path)
    async with connect_to(new):
        await add_user(new, "alice")
    with pytest.raises(CopyError, match="The target must be empty, and has rows in users"):
        await copy_database(sqlite_url, driver_url(postgresql_url), lambda *_: None)
    assert len((await rows(postgresql_url))["users"]) == 1


async def test_a_source_that_is_not_up_to_date_is_refused(sqlite_url: str, postgresql_url: str) -> None:
    """As is one that was never migrated."""
    with sqlite3.connect(make_url(sqlite_url).database or "") as file:
        file.execute("UPDATE alembic_version SET version_num = 'other'")
    with pytest.raises(CopyError, match="The source is at revision other, and must be migrated to "):
        await copy_database(sqlite_url, driver_url(postgresql_url), lambda *_: None)
    with sqlite3.connect(make_url(sqlite_url).database or "") as file:
        file.execute("DROP TABLE alembic_version")
    with pytest.raises(CopyError, match="The source is at revision None"):
        await copy_database(sqlite_url, driver_url(postgresql_url), lambda *_: None)


async def test_a_target_that_was_never_migrated_is_refused(sqlite_url: str, empty_postgresql_url: str) -> None:
    """And stays as it is."""
    with pytest.raises(CopyError, match="The target is at revision None, and must be migrated to "):
        await copy_database(sqlite_url, driver_url(empty_postgresql_url), lambda *_: None)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("UPDATE items SET title = printf('%.*c', 201, 'x') WHERE id = 2", "items: value too long for type character"),
        ("UPDATE items SET title = char(0) WHERE id = 2", "items: invalid byte sequence"),
        ("UPDATE items SET version = 'one' WHERE id = 2", "items: "),
    ],
    ids=["too long", "NUL", "no number"],
)
async def test_a_value_that_only_sqlite_takes_stops_the_whole_copy(
    sqlite_url: str, postgresql_url: str, tmp_path: Path, change: str, line: str
) -> None:
    """The line names its table; what was copied before it is taken back."""
    old = application(sqlite_url, tmp_path)
    async with connect_to(old):
        await fill(old)
    with sqlite3.connect(make_url(sqlite_url).database or "") as file:
        file.execute(change)
    with pytest.raises(CopyError) as refusal:
        await copy_database(sqlite_url, driver_url(postgresql_url), lambda *_: None)
    assert str(refusal.value).startswith(f"Nothing was copied: {line}")
    assert "\n" not in str(refusal.value)
    assert not any((await rows(postgresql_url)).values())


async def test_a_target_that_somebody_writes_to_is_left_alone(
    sqlite_url: str, postgresql_url: str, cleaner: asyncpg.Connection
) -> None:
    """Their transaction may be about to commit rows."""
    async with cleaner.transaction():
        await cleaner.execute("LOCK TABLE items IN ROW EXCLUSIVE MODE")
        with pytest.raises(CopyError, match=r"Nothing was copied: .*lock timeout"):
            await copy_database(sqlite_url, driver_url(postgresql_url), lambda *_: None)


async def test_the_source_is_only_read(sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    """A copy of a file without rights to write to it works."""
    file = tmp_path / "read only #1?.sqlite3"
    shutil.copy(make_url(sqlite_url).database or "", file)
    before = file.read_bytes()
    await copy_database(f"sqlite:///{file}".replace("?", "%3F"), driver_url(postgresql_url), lambda *_: None)
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
async def test_what_is_no_sqlite_file_is_refused(postgresql_url: str, tmp_path: Path, source: str) -> None:
    """And isn't made."""
    with pytest.raises(CopyError, match=r"^The source must be sqlite:///file, with a file that is there$"):
        await copy_database(source.format(folder=tmp_path), driver_url(postgresql_url), lambda *_: None)
    assert not (tmp_path / "nowhere").exists()


async def test_a_file_that_is_no_database_is_refused(postgresql_url: str, tmp_path: Path) -> None:
    """In SQLite's own words."""
    (tmp_path / "file").write_text("no database")
    with pytest.raises(CopyError, match=r"^Nothing was copied: file is not a database$"):
        await copy_database(f"sqlite:///{tmp_path / 'file'}", driver_url(postgresql_url), lambda *_: None)


async def test_the_command_prints_one_line_for_each_table(sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    """A second time it refuses, in one line, and ends with an error."""
    old = application(sqlite_url, tmp_path)
    async with connect_to(old):
        await fill(old)
    code, out, _ = litestar(tmp_path, "copy-database", sqlite_url, url=postgresql_url)
    lines = [line.split() for line in out.splitlines()[-len(Base.metadata.sorted_tables) :]]
    assert code == 0
    assert sorted(lines) == sorted([name, str(len(of))] for name, of in (await rows(sqlite_url)).items())
    code, _, err = litestar(tmp_path, "copy-database", sqlite_url, url=postgresql_url)
    assert code == 1
    assert err.splitlines()[-1].startswith("The target must be empty, and has rows in ")
    assert "Traceback" not in err


def test_the_command_refuses_other_targets(sqlite_url: str, tmp_path: Path) -> None:
    """An SQLite database, and one that is away, without its password."""
    code, _, err = litestar(tmp_path, "copy-database", sqlite_url, url=sqlite_url)
    assert (code, err.splitlines()[-1]) == (1, "DATABASE_URL must be the PostgreSQL database to copy into")
    code, _, err = litestar(tmp_path, "copy-database", sqlite_url, url="postgresql://u:canary@127.0.0.1:1/n")
    assert code == 1
    assert err.splitlines()[-1].startswith("Nothing was copied: ")
    assert "Traceback" not in err
    assert "canary" not in err
