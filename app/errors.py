"""What can go wrong, and the one mapping of it to problem details (RFC 9457).

AppError
├── BadRequest 400
│   └── OAuthError 400, 401: RFC 6749's `error` and `error_description` beside it
├── Unauthorized 401
├── Forbidden 403
├── NotFound 404
├── RequestTimeout 408
├── Conflict 409
│   └── OwnerGone
├── PreconditionFailed 412
├── UnsupportedMediaType 415
├── InvalidFields 422
├── TooManyRequests 429
└── Unavailable 503

A feature derives its own from these, beside the rule that raises it; what the framework and the database raise is
mapped here.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from asyncpg import InternalClientError
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError

from app.security import HashingOverloadedError

PROBLEM = "application/problem+json"
log = structlog.stdlib.get_logger()


class InvalidField(Struct):
    """One field that was refused: a JSON pointer (RFC 6901) to it, or `/name` of a query parameter, and why."""

    pointer: str
    detail: str


class Problem(Struct, kw_only=True):
    """A problem detail (RFC 9457); `instance` is the id of the request, for the operator's logs."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    errors: list[InvalidField] | UnsetType = UNSET


class OAuthProblem(Struct, kw_only=True):
    """An error of the token endpoint (RFC 6749, section 5.2), with the status and detail that every error has."""

    error: str
    error_description: str
    status: int
    detail: str


class AppError(Exception):
    """Something the application refuses or can't do; `detail` is for the client."""

    status: int = 500
    detail: str = ""

    def __init__(self, detail: str = "", *, headers: dict[str, str] | None = None) -> None:
        self.detail = detail or self.detail or HTTPStatus(self.status).phrase
        self.headers = headers or {}
        super().__init__(self.detail)


class BadRequest(AppError):
    """The request can't be understood."""

    status = 400


class OAuthError(AppError):
    """The token endpoint refuses, in the words of RFC 6749, section 5.2."""

    status = 400
    error = "invalid_request"


class Unauthorized(AppError):
    """Nobody is signed in; the challenge says how to be (RFC 6750, section 3)."""

    status = 401


class Forbidden(AppError):
    """Somebody is signed in, and may not."""

    status = 403


class NotFound(AppError):
    """There is no such thing."""

    status = 404


class RequestTimeout(AppError):
    """The body took too long; its rest may still come, so the connection is closed (RFC 9110, section 15.5.9)."""

    status = 408
    detail = "The body took too long"

    def __init__(self) -> None:
        super().__init__(headers={"Connection": "close"})


class Conflict(AppError):
    """The state of things doesn't allow it."""

    status = 409


class OwnerGone(Conflict):
    """A row refers to one that isn't there any more."""

    detail = "What this belongs to has just been deleted"


class PreconditionFailed(AppError):
    """The resource has changed since the client read it (RFC 9110, section 13)."""

    status = 412
    detail = "The resource has changed since you read it"


class UnsupportedMediaType(AppError):
    """The body is of another media type than the operation takes."""

    status = 415


class InvalidFields(AppError):
    """Fields are missing, unknown or out of bounds."""

    status = 422
    detail = "The request has invalid fields"

    def __init__(self, *errors: InvalidField) -> None:
        super().__init__()
        self.errors = list(errors)


class TooManyRequests(AppError):
    """A limit is used up for `retry_after` seconds."""

    status = 429
    detail = "Too many attempts; try again later"

    def __init__(self, retry_after: int) -> None:
        super().__init__(headers={"Retry-After": str(retry_after)})


class Unavailable(AppError):
    """Something the service needs is overloaded or away for the moment."""

    status = 503
    detail = "The service is temporarily unavailable; try again"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


# SQLSTATEs whose cause is what the client sent: text or numbers that a column can't hold.
INVALID_VALUE = {"22000", "22001", "22003", "22021", "22P05"}
# And those whose cause is the state of the server: it stops, is full, read-only, late, deadlocked, not migrated, or not
# to be signed in to by the name and password of DATABASE_URL.
UNAVAILABLE_CLASSES = ("08", "28", "3D", "40", "53", "57", "58", "XX")
UNAVAILABLE_STATES = {"25006", "25P03", "42P01", "55000", "55P03"}


def database_error(error: Exception) -> AppError | None:  # noqa: PLR0911 - one for each kind of failure
    """What a failure of the database means for the client; None when it is a bug of ours."""
    # InternalClientError is asyncpg's for a connection whose end the server has announced; SQLAlchemy passes it on.
    if isinstance(error, (PoolTimeoutError, OSError, TimeoutError, InternalClientError)):
        return Unavailable()
    if isinstance(error, StaleDataError):  # another writer came first, after this one had read the row
        return PreconditionFailed()
    if isinstance(error, (OverflowError, UnicodeEncodeError)):  # of SQLite's driver, which SQLAlchemy passes on
        return InvalidFields()
    if not isinstance(error, DBAPIError):
        return None
    if is_orphan(error):
        return OwnerGone()
    state = getattr(error.orig, "sqlstate", None)
    if state in INVALID_VALUE:
        return InvalidFields()
    unavailable = state is not None and (state in UNAVAILABLE_STATES or state.startswith(UNAVAILABLE_CLASSES))
    if unavailable or (state is None and isinstance(error, (InterfaceError, OperationalError))):
        return Unavailable()
    return Unavailable() if error.connection_invalidated else None


def is_duplicate(error: DBAPIError) -> bool:
    """Whether a unique constraint refused the row, on either database."""
    return getattr(error.orig, "sqlstate", None) == "23505" or "UNIQUE constraint failed" in str(error.orig)


def is_orphan(error: DBAPIError) -> bool:
    """Whether a row refers to one that isn't there, on either database: its owner's account was deleted meanwhile."""
    return getattr(error.orig, "sqlstate", None) == "23503" or "FOREIGN KEY constraint failed" in str(error.orig)


def is_missing_table(error: DBAPIError) -> bool:
    """Whether a table isn't there, on either database: it was not migrated."""
    return getattr(error.orig, "sqlstate", None) == "42P01" or "no such table" in str(error.orig)


def app_error(error: Exception) -> AppError:
    """Any exception as one of ours, so that no text of a library or driver reaches a client."""
    match error:
        case AppError():
            return error
        case HashingOverloadedError():
            return Unavailable("Too many passwords are being checked; try again")
        case ExceptionGroup():  # the framework's cleanup of a dependency failed as well; its cause came first
            return app_error(error.__cause__ if isinstance(error.__cause__, Exception) else error.exceptions[0])
        case ValidationException():
            return invalid_parameters(error)
        case HTTPException():
            return framework_error(error)
    return database_error(error) or AppError("Internal server error")


class FrameworkError(AppError):
    """An error that the framework's routing or body reading raised, with its own status."""

    def __init__(self, status: int, detail: str, headers: dict[str, str]) -> None:
        self.status = status
        super().__init__(detail, headers=headers)


def framework_error(error: HTTPException) -> AppError:
    """An HTTP exception of the framework, with a detail in our words."""
    match error:
        case NotFoundException():
            detail = "There is nothing at this path"
        case MethodNotAllowedException():
            detail = "The resource does not support this method"
        case RequestEntityTooLarge():
            detail = "The body is too large"
        case _:
            detail = HTTPStatus(error.status_code).phrase
    return FrameworkError(error.status_code, detail, dict(error.headers or {}))


def invalid_parameters(error: ValidationException) -> AppError:
    """Parameters that the framework refused; a body that is missing altogether is no JSON."""
    extra = error.extra if isinstance(error.extra, list) else []
    if any(problem.get("key") == "data" for problem in extra):
        return BadRequest("The body is missing")
    return InvalidFields(*(InvalidField(f"/{parameter_name(problem)}", "is not a valid value") for problem in extra))


def parameter_name(problem: Mapping[str, str]) -> str:
    """What the client calls a parameter; the framework calls a header by the name of the handler's argument."""
    name = problem.get("key", "")
    return name.replace("_", "-").title() if problem.get("source") == "header" else name


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[Problem | OAuthProblem]:
    """The answer to an exception; a fault of ours is logged with its traceback, an outage with its cause."""
    mapped = app_error(error)
    if mapped.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("unhandled exception", exc_info=error)
    elif isinstance(mapped, Unavailable) and mapped is not error:
        log.warning("service unavailable", cause=cause_of(error))
    headers = mapped.headers
    if isinstance(mapped, OAuthError):
        body = OAuthProblem(
            error=mapped.error, error_description=mapped.detail, status=mapped.status, detail=mapped.detail
        )
        headers = headers | {"Cache-Control": "no-store", "Pragma": "no-cache"}
        return Response(body, status_code=mapped.status, media_type=MediaType.JSON, headers=headers)
    problem = Problem(
        title=HTTPStatus(mapped.status).phrase,
        status=mapped.status,
        detail=mapped.detail,
        instance=request.scope["state"]["request_id"],
        errors=mapped.errors if isinstance(mapped, InvalidFields) else UNSET,
    )
    return Response(problem, status_code=mapped.status, media_type=PROBLEM, headers=headers)


def cause_of(error: Exception) -> str:
    """What an operator looks an outage up by: the driver's own name for it, where it is one of the driver's."""
    return type(error.driver_exception if isinstance(error, DBAPIError) else error).__name__


HANDLERS: ExceptionHandlersMap = {Exception: respond, HTTPException: respond}
