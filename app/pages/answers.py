"""The answers to errors in a browser: the form again with what is wrong, or a page that says it; problems elsewhere."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response

from app.auth.credentials import WrongPassword
from app.auth.two_steps import WrongSignInCode
from app.errors import AppError, InvalidFields, phrase
from app.http.access import StaleSignIn
from app.http.problems import app_error, respond
from app.http.requests import SAFE_METHODS
from app.pages.forms import FormRefused
from app.pages.visit import (
    BESIDE_KEY,
    CONFIRM,
    MEMBERS_KEY,
    PAGE_KEY,
    SECURITY,
    SIGN_IN,
    SignInNeeded,
    Visit,
    has_route,
    own_path,
    visit_of,
)
from app.security.second_step import SecondFactorNeeded, WrongCode

PAGES = re.compile(r"/(account|authorize)(/|\Z)")
FIELDS: Mapping[type[AppError], str] = {WrongPassword: "current_password", WrongSignInCode: "code", WrongCode: "code"}
"""The field that an error is about; others are told above the form."""
UNCHECKED = (400, 401, 403, 409, 422, 429)
"""The statuses of errors that a person can mend in the form."""


def respond_in_browser(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Return the answer to an exception: a page for browsers, and elsewhere what the API answers."""
    if isinstance(error, SignInNeeded):
        return to_prove(visit_of(request), SIGN_IN)
    if isinstance(error, StaleSignIn) and MEMBERS_KEY in request.route_handler.opt:
        return to_prove(visit_of(request), CONFIRM)
    if isinstance(error, SecondFactorNeeded) and visit_of(request).user:
        return to_prove(visit_of(request), SECURITY)
    answer = respond(request, error)
    if not (PAGES.match(request.scope["path"]) and is_browser(request)):
        return answer
    visit, mapped = visit_of(request), app_error(error)
    headers = dict(mapped.headers)
    form = request.route_handler.opt.get(PAGE_KEY) if has_route(request) else None
    if form and request.method not in SAFE_METHODS and may_be_mended(mapped):
        problem, errors = told(mapped, request.route_handler.opt.get(BESIDE_KEY, ""))
        return visit.page(form, mapped.status, headers=headers, problem=problem, errors=errors)
    return visit.page(
        "error.html",
        mapped.status,
        headers=headers,
        phrase=phrase(mapped.status),
        detail=sentence(mapped.detail),
        back=request.scope["path"] if isinstance(mapped, FormRefused) else "",
        request_id=request.scope["state"]["request_id"],
    )


def is_browser(request: Request[Any, Any, Any]) -> bool:
    """Return whether whoever asks takes pages."""
    return "text/html" in request.headers.get("accept", "")


def to_prove(visit: Visit, page: str) -> Response[Any]:
    """Return the way to a page on which people prove who they are, and back."""
    path, query = visit.request.scope["path"], visit.request.scope["query_string"].decode("ascii", "ignore")
    back = own_path(f"{path}?{query}" if query and visit.request.method in SAFE_METHODS else path)
    return visit.redirect(f"{page}?{urlencode({'next': back})}" if back else page)


def may_be_mended(error: AppError) -> bool:
    """Return whether the form can be sent again, once it is mended."""
    return error.status in UNCHECKED and not isinstance(error, FormRefused)


def told(error: AppError, beside: str) -> tuple[str | None, dict[str, str]]:
    """Return what stands above a form, and what beside its fields; `beside` is that of what is wrong as a whole."""
    if isinstance(error, InvalidFields):
        return None, {field.pointer.removeprefix("/"): in_words(field.detail) for field in error.errors}
    if name := FIELDS.get(type(error), beside):
        return None, {name: sentence(error.detail)}
    return sentence(error.detail), {}


def in_words(detail: str) -> str:
    """Return what is wrong with a field as a person reads it: people don't say "string"."""
    if detail == "is required":
        return "Please fill this in."
    detail = re.sub(r"must be a string of 0 to (\d+)", r"must have at most \1", detail)
    return sentence("it " + detail.replace("must be a string of", "must have"))


def sentence(text: str) -> str:
    """Return a text that begins like a sentence, and ends like one."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
