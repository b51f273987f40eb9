"""Running an operator's command on a database."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import TypeVar

from app.database.failures import database_error
from app.database.sessions import Database
from app.errors import AppError, InvalidFields

Result = TypeVar("Result")


def run(database: Database, work: Coroutine[None, None, Result]) -> Result:
    """Do some work and close the database; what is refused is one line and exit status 1."""

    async def run_and_close() -> Result:
        try:
            return await work
        finally:
            await database.close()

    try:
        return asyncio.run(run_and_close())
    except Exception as error:
        refusal = error if isinstance(error, AppError) else database_error(error)
        if refusal is None:
            raise
        sys.exit("; ".join([refusal.detail, *reasons(refusal)]))


def reasons(error: AppError) -> list[str]:
    """Return each refused field and why, in a line's worth of words."""
    refused = error.errors if isinstance(error, InvalidFields) else []
    return [f"{field.pointer.removeprefix('/')} {field.detail}" for field in refused]
