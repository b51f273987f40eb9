"""Whether the process runs, and whether it can serve."""

import asyncio
from typing import Literal

import structlog
from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct
from sqlalchemy import String, literal_column, select, table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.db import Database
from app.errors import Unavailable, is_missing_table

ANSWER_WITHIN_SECONDS = 2
# Answered by a database that is there and was migrated.
REVISION = select(literal_column("version_num", String())).select_from(table("alembic_version"))
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
    async def ready(self, database: NamedDependency[SkipValidation[Database]]) -> Health:
        """The database answers within two seconds, and has its tables."""
        if await failure(database) is not None:
            raise Unavailable("The database does not answer")
        return Health()


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
