"""The application's errors: one tree, from which each feature derives its own.

AppError
├── BadRequest 400
├── OAuthError 400, 401, 403: RFC 6749's `error` and `error_description` beside it
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

A feature's own errors stand beside the rules that raise them. `database/failures.py` turns the database's failures into
these errors, and `http/problems.py` the framework's; the latter also turns these errors into answers.
"""

from http import HTTPStatus

from msgspec import Struct

# Python has these names of RFC 9110 since version 3.13 alone, and the answers must not depend on it.
RENAMED = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


def phrase(status: int) -> str:
    """Return the name of a status (RFC 9110, section 15), "Not Found" say."""
    return RENAMED.get(status) or HTTPStatus(status).phrase


class InvalidField(Struct):
    """One field that was refused: a JSON pointer (RFC 6901) to it, or `/name` of a query parameter, and why."""

    pointer: str
    detail: str


class AppError(Exception):
    """An error that a client is told: by the HTTP status, and by `detail`, a text without anything internal."""

    status: int = 500
    detail: str = ""

    def __init__(self, detail: str = "", *, headers: dict[str, str] | None = None) -> None:
        self.detail = detail or self.detail or phrase(self.status)
        self.headers = headers or {}
        super().__init__(self.detail)


class BadRequest(AppError):
    """The request can't be understood."""

    status = 400


class OAuthError(AppError):
    """An OAuth endpoint refuses a request; `error` is the code of RFC 6749, section 5.2."""

    status = 400
    error = "invalid_request"


class Unauthorized(AppError):
    """The caller isn't signed in; the answer's challenge says how to be (RFC 6750, section 3)."""

    status = 401


class Forbidden(AppError):
    """The caller is signed in, and lacks the right."""

    status = 403


class NotFound(AppError):
    """The resource doesn't exist."""

    status = 404


class RequestTimeout(AppError):
    """The body took too long; its rest may still come, so the connection is closed (RFC 9110, section 15.5.9)."""

    status = 408
    detail = "The body took too long"

    def __init__(self) -> None:
        super().__init__(headers={"Connection": "close"})


class Conflict(AppError):
    """The present state of the resource doesn't allow the request."""

    status = 409


class OwnerGone(Conflict):
    """The owner of a new row has just been deleted."""

    detail = "What this belongs to has just been deleted"


class PreconditionFailed(AppError):
    """The resource has changed since the client read it (RFC 9110, section 13)."""

    status = 412
    detail = "The resource has changed since you read it"


class UnsupportedMediaType(AppError):
    """The body is of another media type than the operation takes."""

    status = 415


class InvalidFields(AppError):
    """Fields of the body, or query parameters, are missing, unknown or out of bounds."""

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
    """Something that the service needs is overloaded or unreachable for the moment; a client may try again in 1 s."""

    status = 503
    detail = "The service is temporarily unavailable; try again"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "1"})
