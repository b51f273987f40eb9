"""The fixtures that every test builds on: a database in a known state, an application of its own, a client.

A test that takes `database_url`, directly or through the others, runs on SQLite and on PostgreSQL.
"""

import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache, lru_cache
from pathlib import Path
from secrets import token_hex

import asyncpg
import pytest
from argon2 import PasswordHasher
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import make_url

from app.database.models import Base
from app.database.sessions import Database
from app.http.feature import Parts
from app.main import create_app
from app.operations.migrations import migrate
from app.security import passwords
from app.security.limits import OrderedMemoryStorage
from app.security.signing.algorithms import GENERATORS
from app.security.tokens import Tokens
from app.settings import Settings
from tests import postgresql
from tests.factories import SECRET, Gateway, People, Statements, connect_to, parts_of
from tests.programs import POOLED
from tests.through import (  # noqa: F401 - pytest finds its hooks and fixtures here
    _pooled,
    gateway,
    instances,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_terminal_summary,
    pytest_testnodedown,
    start,
)

SERVER = "TEST_DATABASE_URL"


# A tenth of what the tests compute would be hashes of passwords.
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
# A key for RS256 takes half a second; one is enough for all databases of a process.
GENERATORS["RS256"] = cache(GENERATORS["RS256"])


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores, since a test waits for servers about as long as it computes."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL once for all workers, which inherit its address, unless there is a server already."""
    if config.option.through != "nginx":  # The instances behind it would renew the hash at each login.
        passwords.HASHER = QUICK_HASHER
    if hasattr(config, "workerinput") or config.option.collectonly or os.environ.get(SERVER):
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    # Whoever ends the tests by SIGTERM ends the server with them, as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ[SERVER] = stack.enter_context(postgresql.server())
    start(config, stack, os.environ[SERVER])


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for all tests of a process, of the kind that the service runs on."""
    return "asyncio", {"use_uvloop": True}


# Databases ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to the tests' PostgreSQL."""
    connection = await asyncpg.connect(os.environ[SERVER])
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def postgresql_database(server: asyncpg.Connection) -> AsyncIterator[str]:
    """The URL of a database of this process; its tests use it one after the other."""
    name = await create_database(server)
    yield database_address(name)
    await drop_database(server, name)


@pytest.fixture(scope="session")
def migrated_postgresql_database(postgresql_database: str) -> str:
    """The URL of that database once it is migrated, outside of the event loop, since migrations run in their own."""
    migrate(postgresql_database)
    return postgresql_database


@pytest.fixture(scope="session")
async def cleaner(migrated_postgresql_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that stays open for emptying the tables, which is faster than copying a database for each test."""
    connection = await asyncpg.connect(migrated_postgresql_database, statement_cache_size=0)
    yield connection
    await connection.close()


# TRUNCATE makes new files for each table and index, which takes a hundred times as long as to delete a test's few rows.
# Deleted rows stay in the files, so that it is better once those have grown.
TABLES = [table.name for table in Base.metadata.sorted_tables]
TRUNCATE = f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY CASCADE"
DELETE = f"""
{"".join(f"DELETE FROM {table};" for table in reversed(TABLES))}
SELECT setval(format('%I.%I', schemaname, sequencename), start_value, false) FROM pg_sequences
"""  # noqa: S608 - the tables' own names
HAS_LARGE_FILES = """
SELECT EXISTS (
    SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 500 * 1024
)
"""


@pytest.fixture
async def postgresql_url(migrated_postgresql_database: str, cleaner: asyncpg.Connection) -> str:
    """A migrated PostgreSQL database without rows, whose identities start at 1."""
    async with cleaner.transaction():  # A pooler keeps one connection for it.
        await cleaner.execute(TRUNCATE if await cleaner.fetchval(HAS_LARGE_FILES) else DELETE)
    return migrated_postgresql_database


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_file: Path) -> str:
    """A migrated SQLite database without rows, in the same place for every test of this process."""
    path = sqlite_file.with_name("test.sqlite3")
    for left in path.parent.glob(f"{path.name}*"):  # the log of changes, too
        left.unlink()
    return f"sqlite:///{shutil.copy(sqlite_file, path)}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, anyio_backend: object) -> str:  # noqa: ARG001 - for fixtures in its loop
    """A migrated database without rows; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def empty_postgresql_url(server: asyncpg.Connection) -> AsyncIterator[str]:
    """A PostgreSQL database of one test, without a schema."""
    name = await create_database(server)
    yield database_address(name)
    await drop_database(server, name)


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """An SQLite file that isn't there yet."""
    return f"sqlite:///{tmp_path / 'empty.sqlite3'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, anyio_backend: object) -> str:  # noqa: ARG001 - the same
    """A database of one test, without a schema, for tests that change it; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"empty_{request.param}_url")
    return url


@pytest.fixture
def own_database_url(empty_database_url: str) -> str:
    """A migrated database of one test, which may change its schema."""
    migrate(empty_database_url)
    return empty_database_url


async def create_database(server: asyncpg.Connection) -> str:
    """Create a database with a name that nobody else has, and return the name."""
    name = f"test_{token_hex(8)}"
    await server.execute(f"CREATE DATABASE {name}")
    return name


async def drop_database(server: asyncpg.Connection, name: str) -> None:
    """Remove a database, whoever is still connected to it."""
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def database_address(name: str) -> str:
    """Return the URL of one database of the tests' server, through PgBouncer when the tests go through it."""
    return (
        make_url(os.environ.get(POOLED) or os.environ[SERVER]).set(database=name).render_as_string(hide_password=False)
    )


# Applications ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mail_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the mails, which is empty, and in the same place for every test of this process."""
    path = tmp_path_factory.getbasetemp() / "outbox"
    shutil.rmtree(path, ignore_errors=True)
    return path


@pytest.fixture
def settings(database_url: str, mail_dir: Path) -> Settings:
    """The settings of a test's application; its jobs wait for a worker of the test's own."""
    return Settings(secret_key=SECRET, database_url=database_url, mail_dir=str(mail_dir), jobs_in_process=False)


# Litestar takes longer to build an application than most tests take to use it.
application = lru_cache(maxsize=8)(create_app)


@pytest.fixture
def app(settings: Settings, gateway: Gateway | None) -> Litestar:  # noqa: F811 - the fixture
    """An application that has counted nothing yet; it runs while `client` is there.

    Tests with the same settings share it, one after the other. A test that changes it makes its own.
    """
    app = application(settings)
    storage = parts_of(app).limits.local.storage
    assert isinstance(storage, OrderedMemoryStorage)
    storage.events.clear()
    app.state["gateway"] = gateway
    return app


@pytest.fixture
async def parts(app: Litestar) -> AsyncIterator[Parts]:
    """The objects that the application's features are built from; no connection stays open."""
    parts = parts_of(app)
    yield parts
    await parts.database.close()


@pytest.fixture
def database(parts: Parts) -> Database:
    """The application's database."""
    return parts.database


@pytest.fixture
def tokens(parts: Parts) -> Tokens:
    """The service that signs and checks the application's tokens."""
    return parts.tokens


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncClient]:
    """A client that isn't signed in."""
    async with connect_to(app) as client:
        yield client


@pytest.fixture
def people(app: Litestar, client: AsyncClient) -> People:
    """A maker of users who are signed in."""
    return People(app, client)


@pytest.fixture
async def alice(people: People) -> AsyncClient:
    """A client that is signed in as a user, alice."""
    return await people.sign_in("alice")


@pytest.fixture
async def bob(people: People) -> AsyncClient:
    """A client that is signed in as another user, bob."""
    return await people.sign_in("bob")


@pytest.fixture
async def root(people: People) -> AsyncClient:
    """A client that is signed in as a superuser, root."""
    return await people.sign_in("root", is_superuser=True)


@pytest.fixture
def statements(app: Litestar) -> Iterator[Statements]:
    """The statements that the application sends to its database; `clear()` forgets those so far."""
    with Statements.of(app) as statements:
        yield statements


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """A count of how often a password is hashed, and of how often one is verified, which costs the same."""
    count: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., object]:
        original = getattr(PasswordHasher, name)

        def method(*args: object, **kwargs: object) -> object:
            count[name] += 1
            return original(*args, **kwargs)

        return method

    for name in ("hash", "verify"):
        monkeypatch.setattr(PasswordHasher, name, counted(name))
    return count
