"""Whether the process runs, and whether it can serve."""

import asyncio
from pathlib import Path
from typing import Literal

import structlog
from litestar import Controller, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct
from sqlalchemy import Integer, String, literal_column, select, table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.db import Database
from app.errors import Unavailable, is_missing_table

ANSWER_WITHIN_SECONDS = 2
# Answered by a database that is there and was migrated.
REVISION = select(literal_column("version_num", String())).select_from(table("alembic_version"))
# What the server has for those who aren't its superusers.
CONNECTION_LIMIT = select(
    literal_column("current_setting('max_connections')::int", Integer())
    - literal_column("current_setting('superuser_reserved_connections')::int", Integer())
    - literal_column("coalesce(current_setting('reserved_connections', true)::int, 0)", Integer())
)
log = structlog.get_logger()


class Health(Struct):
    """That all is well; when it isn't, the answer is a problem detail."""

    status: Literal["ok"] = "ok"


class HealthController(Controller):
    """For load balancers and supervisors."""

    path = "/health"
    tags = ["Health"]
    opt = {"exclude_from_auth": True, "lenient": True}

    @get("/live", summary="Is the process alive")
    async def live(self) -> Health:
        """The process runs and answers; nothing else is looked at."""
        return Health()

    @get("/ready", summary="Can the service serve")
    async def ready(self, database: NamedDependency[SkipValidation[Database]], state: State) -> Health:
        """The database answers within two seconds, and has its tables; and the service isn't about to stop."""
        if is_draining(state.drain_file):
            raise Unavailable("The service is about to stop")
        if await failure(database) is not None:
            raise Unavailable("The database does not answer")
        return Health()


def is_draining(file: str) -> bool:
    """Whether this instance is about to stop (DRAIN_SECONDS): requests should go to others from now on."""
    return bool(file) and Path(file).exists()


async def failure(database: Database) -> Exception | None:
    """Why the database can't serve; None when it can."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            await database.fetch(REVISION, {})
    except (SQLAlchemyError, OSError) as error:
        return error
    return None


async def report(database: Database) -> None:
    """One line for the operator when the service starts before its database can serve; it goes on, and waits for it."""
    if error := await failure(database):
        missing = isinstance(error, DBAPIError) and is_missing_table(error)
        line = "the database is not migrated: run `just migrate`" if missing else "the database does not answer"
        log.error(line, error=type(error).__name__)


async def report_connections(database: Database, connections: int) -> None:
    """One line for the operator when this instance alone may open more connections than its PostgreSQL takes."""
    [[limit]] = await database.fetch(CONNECTION_LIMIT, {})
    if connections > limit:
        log.warning("DATABASE_POOL_SIZE is above the limit of the server", connections=connections, limit=limit)
