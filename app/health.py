"""Whether the process runs, and whether it can serve."""

import asyncio
from typing import Literal

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct
from sqlalchemy import literal, select
from sqlalchemy.exc import SQLAlchemyError

from app.db import Database
from app.errors import Unavailable

ANSWER_WITHIN_SECONDS = 2
PING = select(literal(1))


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
        """The database answers within two seconds."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                await database.fetch(PING, {})
        except (SQLAlchemyError, OSError):
            raise Unavailable("The database does not answer") from None
        return Health()
