"""The application's errors for failures of the database: which are an outage, and which are the client's mistake."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError

from app.errors import AppError, InvalidFields, OwnerGone, PreconditionFailed, Unavailable

# SQLSTATEs of texts and numbers from the client that a column can't hold.
INVALID_VALUE = {"22000", "22001", "22003", "22021", "22P05"}
# What Python's driver of SQLite raises for a value that it can't pass on; `engine` makes it a DataError.
UNSTORABLE = (OverflowError, UnicodeEncodeError)
# SQLSTATEs of a server that stops, is full, read-only, slow, deadlocked or not migrated, or refuses the name and
# password of DATABASE_URL.
UNAVAILABLE_CLASSES = ("08", "28", "3D", "40", "53", "57", "58", "XX")
UNAVAILABLE_STATES = {"25006", "25P03", "42P01", "55000", "55P03"}


def database_error(error: Exception) -> AppError | None:  # noqa: PLR0911 - one for each kind of failure
    """Return the application's error for a failure of the database; None when the failure is a bug."""
    if isinstance(error, (PoolTimeoutError, OSError, TimeoutError)):
        return Unavailable()
    if isinstance(error, StaleDataError):  # Another writer has changed the row since this one read it.
        return PreconditionFailed()
    if not isinstance(error, DBAPIError):
        return None
    if is_orphan(error):
        return OwnerGone()
    state = getattr(error.orig, "sqlstate", None)
    if state in INVALID_VALUE or isinstance(error.orig, UNSTORABLE):
        return InvalidFields()
    unavailable = state is not None and (state in UNAVAILABLE_STATES or state.startswith(UNAVAILABLE_CLASSES))
    if unavailable or (state is None and isinstance(error, (InterfaceError, OperationalError))):
        return Unavailable()
    return Unavailable() if error.connection_invalidated else None


@contextmanager
def refusals(*, duplicate: type[AppError], orphan: type[AppError] = OwnerGone) -> Generator[None]:
    """Raise `duplicate` when the block violates a unique constraint, and `orphan` when it violates a foreign key."""
    try:
        yield
    except IntegrityError as error:
        if is_duplicate(error):
            raise duplicate from error
        if is_orphan(error):
            raise orphan from error
        raise


def is_duplicate(error: DBAPIError) -> bool:
    """Return whether a unique constraint refused the row."""
    return getattr(error.orig, "sqlstate", None) == "23505" or "UNIQUE constraint failed" in str(error.orig)


def is_orphan(error: DBAPIError) -> bool:
    """Return whether a foreign key refused the row: its owner's account was deleted meanwhile."""
    return getattr(error.orig, "sqlstate", None) == "23503" or "FOREIGN KEY constraint failed" in str(error.orig)


def is_missing_table(error: DBAPIError) -> bool:
    """Return whether a table is missing: the database was not migrated."""
    return getattr(error.orig, "sqlstate", None) == "42P01" or "no such table" in str(error.orig)


def is_lock_timeout(error: DBAPIError) -> bool:
    """Return whether PostgreSQL gave up waiting for another transaction's lock; SQLite's locks are no such case."""
    return getattr(error.orig, "sqlstate", None) == "55P03"


def error_summary(error: Exception) -> str:
    """Return what a database or its driver says went wrong, without the statement, its values and further lines."""
    cause = error.driver_exception if isinstance(error, DBAPIError) else error
    return str(cause).partition("\n")[0] or type(cause).__name__
