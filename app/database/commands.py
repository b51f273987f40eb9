"""The frame of an operator's command that works on a database: its event loop, and one line for an error."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from app.database.failures import database_error
from app.database.progress import bars
from app.database.sessions import Database
from app.errors import AppError, InvalidFields

Result = TypeVar("Result")


def run(database: Database, work: Coroutine[None, None, Result]) -> Result:
    """Return the result of some work, which may show bars of its progress, and close the database.

    For errors of the application and outages of the database, print one line and exit with status 1.
    """

    async def run_and_close() -> Result:
        bars.set(True)
        try:
            return await work
        finally:
            await database.close()

    try:
        return asyncio.run(run_and_close())
    except (AppError, SQLAlchemyError, OSError) as error:
        refusal = error if isinstance(error, AppError) else database_error(error)
        if refusal is None:
            raise
        sys.exit("; ".join([refusal.detail, *reasons(refusal)]))


def reasons(error: AppError) -> list[str]:
    """Return a short text for each refused field: its name, and the reason."""
    refused = error.errors if isinstance(error, InvalidFields) else []
    return [f"{field.pointer.removeprefix('/')} {field.detail}" for field in refused]
