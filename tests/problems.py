"""Checks of what every error has: the members of a problem detail (RFC 9457) and of an OAuth2 error."""

from http import HTTPStatus

from httpx import Response

from app.errors import phrase


def assert_problem(answer: Response, status: int, detail: str | None = None) -> None:
    """Check that the answer is a complete problem detail, with this detail where one is given."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == "about:blank"
    assert body["title"] == phrase(status)
    assert body["status"] == status
    assert body["instance"] == answer.headers["X-Request-ID"]
    assert body["detail"] == (detail or body["detail"])
    assert set(body) <= {"type", "title", "status", "detail", "instance", "errors"}
    assert ("errors" in body) == (status == HTTPStatus.UNPROCESSABLE_ENTITY)
    assert ("Retry-After" in answer.headers) == (
        status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    )


def pointers(answer: Response) -> list[str]:
    """Check that an answer refuses fields, and return the pointers to them."""
    assert_problem(answer, 422, "The request has invalid fields")
    return [error["pointer"] for error in answer.json()["errors"]]


def assert_oauth_error(answer: Response, status: int, error: str, detail: str | None = None) -> None:
    """Check that the answer is an error of an OAuth2 endpoint (RFC 6749, section 5.2)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert set(body) == {"error", "error_description", "status", "detail"}
    assert body["error"] == error
    assert body["status"] == status
    assert body["error_description"] == body["detail"] == (detail or body["detail"])
