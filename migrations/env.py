"""Runs migrations on the database of DATABASE_URL: all of them or none, by one process at a time."""

import asyncio
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import structlog
from advanced_alchemy.types import DateTimeUTC
from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.operations.ops import CreateIndexOp, CreateTableOp, MigrationScript
from alembic.util import CommandError
from sqlalchemy import Column, Connection, DateTime, inspect, pool, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import SchemaItem

import app.main  # noqa: F401 - imports every model, and with it puts its table into the metadata
from app.database.engine import UNPREPARED, accept_libpq, driver_url, sqlite_engine, threads_ended, transactional
from app.database.failures import error_summary
from app.database.models import Base
from app.database.progress import bars
from app.settings import database_url
from app.settings.error import SettingsError

log = structlog.stdlib.get_logger("migrations")
# Any number that no other program takes on the same server.
ADVISORY_LOCK = 5_418_290_117
SQLITE_WAIT_MS = 60_000
MIGRATE_FIRST = "`just migrate` does that"
OF_OTHERS = "it is of newer code, or of another program"
OTHERS_TABLE = "the tables are another program's: give the service a database or a schema of its own"
HINTS = {
    "0A000": "PostgreSQL's contrib modules have the extension that is missing",
    "25006": "DATABASE_URL must lead to the primary, which takes writes",
    "42501": "docs/security.md says which rights the role needs",
    "42703": OTHERS_TABLE,
    "42704": "the role's search_path must have the schema of the extension pg_trgm",
    "58P01": "PostgreSQL's contrib modules have the extension that is missing",
}
SKIPPED = "(Skipped unsupported reflection of|autogenerate skipping metadata-specified) expression-based index"


def render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Write times as the plain type of the database, so that a revision imports nothing of a library."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, DateTime | DateTimeUTC) else False


def include_object(item: SchemaItem, *_: object) -> bool:
    """Pass over what the models have for another kind of database only (`info={"only": "postgresql"}`)."""
    dialect = context.get_context().dialect.name
    return bool(item.info.get("only", dialect) == dialect)


def add_expression_indexes(migration: MigrationContext, _revision: object, scripts: Sequence[MigrationScript]) -> None:
    """Add a new table's indexes of expressions to a revision, which Alembic leaves out on SQLite.

    https://github.com/sqlalchemy/alembic/issues/750; delete when a revision has them there, too.
    """
    if migration.dialect.name != "sqlite":
        return
    for script in scripts:
        operations = script.upgrade_ops.ops if script.upgrade_ops else []
        for table in [operation.table_name for operation in operations if isinstance(operation, CreateTableOp)]:
            indexes = sorted(Base.metadata.tables[table].indexes, key=lambda index: str(index.name))
            of_expressions = [
                index for index in indexes if not all(isinstance(part, Column) for part in index.expressions)
            ]
            operations.extend(CreateIndexOp.from_index(index) for index in of_expressions if include_object(index))


def migrate(connection: Connection) -> None:
    """Run the migrations in the one transaction that the connection is in."""
    if connection.dialect.name == "postgresql":
        # Held until the transaction ends; a second process then sees that there is nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=False,
        render_item=render_item,
        include_object=include_object,
        process_revision_directives=add_expression_indexes,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    if context.config.attributes.get("serves") and (newer := unknown_revision()) and is_complete(connection):
        log.warning("the database is of newer code, and has all that this code needs", revision=newer)
        return
    with context.begin_transaction(), warnings.catch_warnings():
        # SQLite and Alembic don't compare indexes of expressions, and say so each time.
        warnings.filterwarnings("ignore", SKIPPED)
        context.run_migrations()


def unknown_revision() -> str | None:
    """Return the revision of the database if this code doesn't have it."""
    script = context.script
    for revision in context.get_context().get_current_heads():
        try:
            script.get_revision(revision)
        except CommandError:
            return revision
    return None


def is_complete(connection: Connection) -> bool:
    """Return whether the database has every table and column of the models."""
    inspector = inspect(connection)
    return all(
        inspector.has_table(table.name)
        and {column.name for column in table.columns}
        <= {column["name"] for column in inspector.get_columns(table.name)}
        for table in Base.metadata.sorted_tables
    )


def create_engine(url: str) -> tuple[AsyncEngine, AsyncEngine]:
    """Return an engine without time-outs, which a long migration would hit, and its transactional form."""
    address = driver_url(url)
    if address.get_backend_name() == "sqlite":
        engine = sqlite_engine(address, busy_timeout_ms=SQLITE_WAIT_MS)
        return engine, transactional(engine)
    engine = create_async_engine(address, poolclass=pool.NullPool, connect_args={"timeout": 10, **UNPREPARED})
    return accept_libpq(engine), engine


async def run() -> None:
    """Connect, and migrate in one transaction; on SQLite it begins with the write lock."""
    bars.set(True)
    try:
        engine, writer = create_engine(context.config.attributes.get("url") or database_url())
        connection = await writer.connect()
    except SettingsError as error:
        sys.exit(f"Configuration error: {error}")
    except (SQLAlchemyError, OSError) as error:
        await threads_ended()
        sys.exit(f"The database of DATABASE_URL can't be reached: {error_summary(error)}")
    try:
        async with connection.begin():
            await connection.run_sync(migrate)
    except (SQLAlchemyError, OSError, CommandError) as error:
        sys.exit(f"The database of DATABASE_URL can't be migrated{place_of(error)}: {reason(error)}")
    finally:
        await connection.close()
        await engine.dispose()


def place_of(error: Exception) -> str:
    """Return the revision that raised an error, for whoever writes it; nothing where none has begun."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "down_revision" in frame.f_globals]
    return f" by {Path(frames[0].f_code.co_filename).stem}" if frames else ""


def reason(error: Exception) -> str:
    """Return in one line why the migrations failed, and what to do where that is known."""
    said = error_summary(error)
    if isinstance(error, CommandError):
        hint = MIGRATE_FIRST if "not up to date" in said else OF_OTHERS
        return f"{said.rstrip('.')}; {hint}"
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    hint = HINTS.get(state or "") or (OTHERS_TABLE if "already exists" in said else "")
    return f"{said}; {hint}" if hint else said


if context.is_offline_mode():
    sys.exit("Offline migrations are not supported: the lock needs a connection")
asyncio.run(run())
