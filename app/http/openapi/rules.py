"""The rules of the OpenAPI document: what an operation takes and can answer follows from what it is.

A handler adds what only it raises.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus

import msgspec
from litestar import MediaType
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from msgspec import Struct

from app.errors import (
    AppError,
    InvalidFields,
    OAuthError,
    OwnerGone,
    PreconditionFailed,
    RequestTimeout,
    Unavailable,
    phrase,
)
from app.http.access import (
    FORM_KEY,
    OAUTH_ERRORS_KEY,
    SECURITY_SCHEME,
    StaleSignIn,
    SuperuserOnly,
    is_fresh,
    is_lenient,
    is_public,
    scope_of,
)
from app.http.grants import Grant
from app.http.idempotency import RequestInProgress
from app.http.lines import LINES_KEY, NDJSON
from app.http.openapi.changes import DocumentChange, Node, OperationChange
from app.http.problems import PROBLEM, OAuthProblem, Problem
from app.http.requests import MAX_ID, MOMENT, choices_of
from app.http.schemas import TEXTS

# The errors that follow from the kind of operation: what the document calls each, when it comes, and a detail.
ERRORS = {
    400: ("BadRequest", "The body or the query can't be read", "The body is not valid JSON"),
    401: ("Unauthorized", "No valid access token came with the request", "Not authenticated"),
    403: ("Forbidden", "The token lacks the scope, or the caller the right", SuperuserOnly.detail),
    404: ("NotFound", "There is nothing under this id", "There is nothing at this path"),
    408: ("RequestTimeout", "The body takes too long to arrive", RequestTimeout.detail),
    409: ("Conflict", f"{RequestInProgress.detail}; {OwnerGone.detail}", RequestInProgress.detail),
    412: ("PreconditionFailed", "The tag is none of those in `If-Match`", PreconditionFailed.detail),
    413: ("ContentTooLarge", "The body is too large", "The body is too large"),
    415: ("UnsupportedMediaType", "The body is of another media type", "The body must be application/json in UTF-8"),
    422: ("InvalidFields", "Fields or query parameters are missing, unknown or wrong", InvalidFields.detail),
    500: ("InternalServerError", "A fault, which the service's log has under the id", "Internal server error"),
    503: ("Unavailable", "The service is overloaded, or its database is away", Unavailable.detail),
}
OAUTH_ERROR = ("OAuthError", "The form can't be read, or lacks a parameter", "username is required")
STALE = ("StaleSignIn", "No valid access token came with the request, or its sign-in was too long ago (RFC 9470)")
HEADERS = {
    "X-Request-ID": "The request's id: the client's own where it is sane, else a random one",
    "Location": "Where the new resource is",
    "WWW-Authenticate": "How to sign in (RFC 6750)",
    "Retry-After": "Seconds to wait",
}
HEADER_OF = {201: "Location", 401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
MAX_INT32 = 2**31 - 1
NOT_EMPTY = {"minLength": 1}
DEFAULT_GRANT = "password"


def raises(*errors: type[AppError]) -> dict[int, ResponseSpec]:
    """Return the `responses` of a handler that raises these, beyond what the rules give it."""
    responses: dict[int, ResponseSpec] = {}
    for error in errors:
        detail = error.detail or phrase(error.status)
        examples = [Example(summary=detail, value=example_of(error, detail))]
        if spec := responses.get(error.status):
            detail = f"{spec.description}; {detail}"
            examples = [*(spec.examples or []), *examples]
        oauth = issubclass(error, OAuthError)
        responses[error.status] = ResponseSpec(
            data_container=OAuthProblem if oauth else Problem,
            media_type=MediaType.JSON if oauth else PROBLEM,
            description=detail,
            generate_examples=False,
            examples=examples,
        )
    return responses


def example_of(error: type[AppError], detail: str) -> Node:
    """Return an error as it looks on the wire."""
    if issubclass(error, OAuthError):
        return {"error": error.error, "error_description": detail, "status": error.status, "detail": detail}
    return problem_example(error.status, detail)


def problem_example(status: int, detail: str) -> Node:
    """Return a problem detail as it looks on the wire."""
    return {
        "type": "about:blank",
        "title": phrase(status),
        "status": status,
        "detail": detail,
        "instance": "9f86d081884c7d659a2feaa0c55ad015",
    }


def name_scope(operation: Node, handler: HTTPRouteHandler) -> None:
    """Say which scope a guarded operation needs; without one, a token of no scope."""
    if not is_public(handler):
        scope = scope_of(handler)
        operation["security"] = [{SECURITY_SCHEME: [scope] if scope else []}]


def describe_form(operation: Node, handler: HTTPRouteHandler) -> None:
    """Say which form an operation takes."""
    if form := handler.opt.get(FORM_KEY):
        content = {RequestEncodingType.URL_ENCODED.value: {"schema": reference("schemas", form.__name__)}}
        operation["requestBody"] = {"required": True, "content": content}


def describe_grants(document: Node, handlers: Iterable[HTTPRouteHandler], grants: Mapping[str, Grant]) -> None:
    """Say which grants a form with a `grant_type` takes, and which parameters each of them has.

    All parameters of all grants may be left out; those that a grant needs follow from the `grant_type`.
    """
    forms = {kind: msgspec.json.schema(grant.form)["$defs"][grant.form.__name__] for kind, grant in grants.items()}
    for handler in handlers:
        schema = document["components"]["schemas"][handler.opt[FORM_KEY].__name__] if FORM_KEY in handler.opt else {}
        if "grant_type" in schema.get("properties", {}):
            common = schema["properties"]
            parameters = {name: part for form in forms.values() for name, part in form["properties"].items()}
            kind = common["grant_type"] | {"enum": list(grants)}
            if DEFAULT_GRANT not in grants:
                kind = {name: value for name, value in kind.items() if name != "default"} | {"examples": [*grants][:1]}
            schema["properties"] = {"grant_type": kind} | parameters | common | {"grant_type": kind}
            schema |= choose_grant(forms)


def describe_flows(document: Node, grants: Collection[str], authorization_url: str) -> None:
    """Say by which flows a person can sign in, in the order in which the pages offer them.

    The address at which people sign in is absolute: Swagger UI takes a relative one for relative to its own page.
    """
    scheme = document["components"]["securitySchemes"][SECURITY_SCHEME]
    flows = scheme["flows"]
    password = flows["password"]
    if authorization_url:
        flows["authorizationCode"] = {"authorizationUrl": authorization_url, **password}
    if DEFAULT_GRANT not in grants:
        del flows["password"]
        scheme["description"] = "Sign in on a page. With scopes, the token may do no more than they say."


def choose_grant(forms: Mapping[str, Node]) -> Node:
    """Return what says which parameters a form needs, by its `grant_type`."""
    needs = {kind: needed(form.get("required", [])) for kind, form in forms.items()}
    choice = needs.pop(DEFAULT_GRANT, {"required": ["grant_type"]})
    for kind, then in reversed(needs.items()):
        condition = {"properties": {"grant_type": {"const": kind}}, "required": ["grant_type"]}
        choice = {"if": condition, "then": then, "else": choice}
    return choice


def needed(names: Sequence[str]) -> Node:
    """Return the schema of a form that has these parameters, none of them empty."""
    return TEXTS | {"properties": dict.fromkeys(names, NOT_EMPTY), "required": list(names)}


def describe_parameters(operation: Node, handler: HTTPRouteHandler) -> None:
    """Say what app/http/requests.py checks of every parameter, and what generated clients call its choices."""
    chosen = choices_of(handler)
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        if parameter["name"] in chosen:
            schema["enum"] = sorted(chosen[parameter["name"]])
        if "enum" in schema:
            schema["x-enum-varnames"] = [choice_name(value) for value in schema["enum"]]
        elif schema.get("format") == "date-time":
            schema["pattern"] = f"^{MOMENT}$"
        elif schema.get("type") == "string" and parameter["in"] == "query":
            schema["pattern"] = r"^[^\x00]*$"
        elif schema.get("type") == "integer" and parameter["in"] == "path":
            schema |= {"minimum": 1, "maximum": MAX_ID, "examples": [1]}


def describe_lines(operation: Node, handler: HTTPRouteHandler) -> None:
    """Say that a list also comes as JSON lines, each of which is one of the array's items."""
    if LINES_KEY in handler.opt:
        content = operation["responses"]["200"]["content"]
        content[NDJSON] = {"schema": content[MediaType.JSON.value]["schema"]["items"]}


def choice_name(value: str) -> str:
    """Return what generated clients call a choice of theirs: `-title` is TITLE_DESCENDING."""
    name = value.removeprefix("-").upper()
    return name if value[0] != "-" else f"{name}_DESCENDING"


def add_headers(operation: Node, _handler: HTTPRouteHandler) -> None:
    """Give every answer the headers that its status always has."""
    for status, answer in operation["responses"].items():
        answer["headers"] = headers_of(int(status)) | answer.get("headers", {})


def add_errors(operation: Node, handler: HTTPRouteHandler) -> None:
    """Add the errors that an operation can give because of what it is; what a handler says of one is kept."""
    answers = operation["responses"]
    for status in possible_errors(handler, operation):
        answers.setdefault(str(status), reference("responses", shared_name(handler, status)))
    operation["responses"] = dict(sorted(answers.items()))


def add_oauth_errors(operation: Node, handler: HTTPRouteHandler) -> None:
    """Add the errors that come in RFC 6749's form beside problem details of the same status."""
    for error in handler.opt.get(OAUTH_ERRORS_KEY, ()):
        response = operation["responses"][str(error.status)]
        response["description"] += f"; {error.detail}"
        example = example_of(error, error.detail)
        response["content"][MediaType.JSON.value] = {
            "schema": reference("schemas", OAuthProblem.__name__),
            "example": example,
        }


def shared_name(handler: HTTPRouteHandler, status: int) -> str:
    """Return the name of the shared answer that an operation gives with a status."""
    if status == HTTPStatus.BAD_REQUEST and FORM_KEY in handler.opt:
        return OAUTH_ERROR[0]
    if status == HTTPStatus.UNAUTHORIZED and is_fresh(handler):
        return STALE[0]
    return ERRORS[status][0]


def possible_errors(handler: HTTPRouteHandler, operation: Node) -> Iterator[int]:
    """Yield the statuses of the errors that an operation can give because of what it is."""
    public = is_public(handler)
    if not public:
        yield from (401, 403)
    if "requestBody" in operation:
        yield from (400, 408, 413, 415)
    parameters = {parameter["name"]: parameter["in"] for parameter in operation.get("parameters", [])}
    if "path" in parameters.values():
        yield 404
    if "Idempotency-Key" in parameters:
        yield 409
    if "If-Match" in parameters:
        yield 412
    if not is_lenient(handler):
        yield from (400, 422)  # For a query that is not UTF-8, and for one with unknown parameters.
    if not public or handler.parsed_fn_signature.parameters:  # It needs more than itself: the database, say.
        yield 503
    yield 500


def reference(kind: str, name: str) -> Node:
    """Return a reference to a shared component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def shared_answers() -> Node:
    """Return the errors that operations refer to."""
    answers = {
        name: answer(status, description, PROBLEM, Problem, problem_example(status, detail))
        for status, (name, description, detail) in ERRORS.items()
    }
    content = answers[ERRORS[422][0]]["content"][PROBLEM]
    content["example"]["errors"] = [{"pointer": "/title", "detail": "is required"}]
    name, description = STALE
    answers[name] = answer(401, description, PROBLEM, Problem, problem_example(401, StaleSignIn.detail))
    name, description, detail = OAUTH_ERROR
    answers[name] = answer(400, description, MediaType.JSON, OAuthProblem, example_of(OAuthError, detail))
    return answers


def answer(status: int, description: str, media_type: str, struct: type[Struct], example: Node) -> Node:
    """Return one answer, with the headers of its status."""
    content = {"schema": reference("schemas", struct.__name__), "example": example}
    return {"description": description, "content": {media_type: content}, "headers": headers_of(status)}


def headers_of(status: int) -> Node:
    """Return the headers that an answer always has."""
    names = ["X-Request-ID", *([HEADER_OF[status]] if status in HEADER_OF else [])]
    return {name: reference("headers", name) for name in names}


def shared_headers() -> Node:
    """Return the headers that answers refer to."""
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()}


def add_shared(document: Node, _handlers: Iterable[HTTPRouteHandler]) -> None:
    """Add the answers and headers that operations refer to."""
    document["components"] |= {"responses": shared_answers(), "headers": shared_headers()}


def name_int64(document: Node, _handlers: Iterable[HTTPRouteHandler]) -> None:
    """Say that an integer has 64 bits unless its bound fits 32: ids above all, wherever they are.

    Without a format, generators of clients in languages with integers of several sizes take 32 bits.
    """
    for schema in nodes(document):
        if schema.get("type") == "integer" and schema.get("maximum", MAX_ID) > MAX_INT32:
            schema["format"] = "int64"


def nodes(part: object) -> Iterator[Node]:
    """Yield every object in a part of the document, at any depth."""
    if isinstance(part, dict):
        yield part
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from nodes(child)


OPERATION_RULES: Sequence[OperationChange] = [
    name_scope,
    describe_form,
    describe_parameters,
    describe_lines,
    add_headers,
    add_errors,
    add_oauth_errors,
]
DOCUMENT_RULES: Sequence[DocumentChange] = [add_shared, name_int64]
