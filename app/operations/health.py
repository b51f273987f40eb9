"""Health checks: whether the process is alive, and whether it is ready to serve requests."""

import asyncio
from pathlib import Path
from typing import Literal

import structlog
from litestar import Controller, get
from msgspec import Struct
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database.background import Background
from app.database.failures import is_missing_table
from app.database.sessions import Database
from app.database.status import connection_limit, revision
from app.errors import Unavailable
from app.http.access import LENIENT, PUBLIC
from app.http.requests import Provided

ANSWER_WITHIN_SECONDS = 2
log = structlog.get_logger()


class Health(Struct):
    """That all is well; when it isn't, the answer is a problem detail."""

    status: Literal["ok"] = "ok"


class Readiness:
    """The check that this instance is ready to serve requests."""

    def __init__(self, database: Database, jobs: Background, drain_file: str) -> None:
        """Check a database, the jobs, and the file that exists once the instance is about to stop (may be empty)."""
        self.database = database
        self.jobs = jobs
        self.drain_file = drain_file

    async def check(self) -> None:
        """Raise Unavailable when requests should go to other instances."""
        if self.is_draining():
            raise Unavailable("The service is about to stop")
        if await find_failure(self.database) is not None:
            raise Unavailable("The database does not answer")
        if self.jobs.is_down:
            raise Unavailable("The background jobs do not run")

    def is_draining(self) -> bool:
        """Return whether this instance is about to stop."""
        return bool(self.drain_file) and Path(self.drain_file).exists()


class HealthController(Controller):
    """The health checks, for load balancers and supervisors."""

    path = "/health"
    tags = ["Health"]
    opt = PUBLIC | LENIENT

    @get("/live", summary="Is the process alive")
    async def live(self) -> Health:
        """The process runs and answers; nothing else is looked at."""
        return Health()

    @get("/ready", summary="Can the service serve")
    async def ready(self, readiness: Provided[Readiness]) -> Health:
        """The database answers within two seconds and has its tables, jobs run, and the service isn't about to stop."""
        await readiness.check()
        return Health()


async def find_failure(database: Database) -> Exception | None:
    """Return the error for which the database can't serve requests; None when it can, within ANSWER_WITHIN_SECONDS."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            await revision(database)
    except (SQLAlchemyError, OSError) as error:
        return error
    return None


async def log_failure(database: Database) -> None:
    """Log an error when the service starts before its database can serve requests; the service starts all the same."""
    if error := await find_failure(database):
        missing = isinstance(error, DBAPIError) and is_missing_table(error)
        line = "the database is not migrated: run `just migrate`" if missing else "the database does not answer"
        log.error(line, error=type(error).__name__)


async def log_connections(database: Database, connections: int) -> None:
    """Log a warning when this instance alone may open more connections than PostgreSQL accepts."""
    limit = await connection_limit(database)
    if connections > limit:
        log.warning("DATABASE_POOL_SIZE is above the limit of the server", connections=connections, limit=limit)
