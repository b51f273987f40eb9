"""Answers to errors: problem details (RFC 9457), and RFC 6749's errors for OAuth clients."""

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
from app.errors import AppError, BadRequest, InvalidField, InvalidFields, OAuthError, Unavailable
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
    """Return any exception as one of ours, so that no text of a library or driver reaches a client."""
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
    """Return an HTTP exception of the framework as one of ours, with a detail in our words."""
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
    """Return an error that names the parameters that the framework refused; a body that is missing is no JSON."""
    extra = error.extra if isinstance(error.extra, list) else []
    if any(problem.get("key") == "data" for problem in extra):
        return BadRequest("The body is missing")
    return InvalidFields(*(InvalidField(f"/{parameter_name(problem)}", "is not a valid value") for problem in extra))


def parameter_name(problem: Mapping[str, str]) -> str:
    """Return what the client calls a parameter; the framework names a header after the handler's argument."""
    # https://github.com/litestar-org/litestar/issues/4215
    name = problem.get("key", "")
    return name.replace("_", "-").title() if problem.get("source") == "header" else name


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[Problem | OAuthProblem]:
    """Answer an exception; log a fault of ours with its traceback, and an outage with its cause."""
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
    """Return the name that an operator looks an outage up by: the driver's own, where it is one of the driver's."""
    return type(error.driver_exception if isinstance(error, DBAPIError) else error).__name__


HANDLERS: ExceptionHandlersMap = {Exception: respond, HTTPException: respond}
