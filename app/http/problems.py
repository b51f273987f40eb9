"""The answers to errors: problem details (RFC 9457), and for OAuth clients the errors of RFC 6749."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.exc import DBAPIError

from app.database.failures import database_error
from app.errors import AppError, BadRequest, InvalidField, InvalidFields, OAuthError, Unavailable, phrase
from app.security.passwords import HashingOverloadedError

PROBLEM = "application/problem+json"
log = structlog.stdlib.get_logger()


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


def app_error(error: Exception) -> AppError:
    """Return the application's error for any exception, so that no text of a library or driver reaches a client."""
    match error:
        case AppError():
            return error
        case HashingOverloadedError():
            return Unavailable("Too many passwords are being checked; try again")
        case ExceptionGroup():  # Litestar's cleanup of a dependency failed as well; the cause was raised first.
            return app_error(error.__cause__ if isinstance(error.__cause__, Exception) else error.exceptions[0])
        case ValidationException():
            return invalid_parameters(error)
        case HTTPException():
            return framework_error(error)
    return database_error(error) or AppError("Internal server error")


class FrameworkError(AppError):
    """An error of Litestar's, raised while it routed the request or read the body, with that error's status."""

    def __init__(self, status: int, detail: str, headers: dict[str, str]) -> None:
        self.status = status
        super().__init__(detail, headers=headers)


def framework_error(error: HTTPException) -> AppError:
    """Return the application's error for one of Litestar's, with a detail of the application's."""
    match error:
        case NotFoundException():
            detail = "There is nothing at this path"
        case MethodNotAllowedException():
            detail = "The resource does not support this method"
        case RequestEntityTooLarge():
            detail = "The body is too large"
        case _:
            detail = phrase(error.status_code)
    return FrameworkError(error.status_code, detail, dict(error.headers or {}))


def invalid_parameters(error: ValidationException) -> AppError:
    """Return InvalidFields with the parameters that Litestar refused, or BadRequest for a missing body."""
    refusals = error.extra if isinstance(error.extra, list) else []
    if any(refusal.get("key") == "data" for refusal in refusals):
        return BadRequest("The body is missing")
    return InvalidFields(*(InvalidField(f"/{parameter_name(refusal)}", "is not a valid value") for refusal in refusals))


def parameter_name(refusal: Mapping[str, str]) -> str:
    """Return a parameter's name in the request; for a header, Litestar gives the name of the handler's argument."""
    # https://github.com/litestar-org/litestar/issues/4215
    name = refusal.get("key", "")
    return name.replace("_", "-").title() if refusal.get("source") == "header" else name


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[Problem | OAuthProblem]:
    """Return the answer to an exception, which is logged."""
    mapped = log_failure(error)
    headers = mapped.headers
    if isinstance(mapped, OAuthError):
        body = OAuthProblem(
            error=mapped.error, error_description=mapped.detail, status=mapped.status, detail=mapped.detail
        )
        headers = headers | {"Cache-Control": "no-store", "Pragma": "no-cache"}
        return Response(body, status_code=mapped.status, media_type=MediaType.JSON, headers=headers)
    problem = Problem(
        title=phrase(mapped.status),
        status=mapped.status,
        detail=mapped.detail,
        instance=request.scope["state"]["request_id"],
        errors=mapped.errors if isinstance(mapped, InvalidFields) else UNSET,
    )
    return Response(problem, status_code=mapped.status, media_type=PROBLEM, headers=headers)


def log_failure(error: Exception) -> AppError:
    """Log a bug with its traceback, and an outage with its cause; return the application's error for the exception."""
    mapped = app_error(error)
    if mapped.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("unhandled exception", exc_info=error)
    elif isinstance(mapped, Unavailable) and mapped is not error:
        log.warning("service unavailable", cause=cause_of(error))
    return mapped


def cause_of(error: Exception) -> str:
    """Return the name of an outage's error: the driver's, where the driver raised it, else that of its type."""
    return type(error.driver_exception if isinstance(error, DBAPIError) else error).__name__


EXCEPTION_HANDLERS: ExceptionHandlersMap = {Exception: respond, HTTPException: respond}
