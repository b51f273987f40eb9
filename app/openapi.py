"""The OpenAPI document.

What an operation can answer follows from what it is: the rules here declare it, once for all handlers; a handler
adds what only it raises.
"""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import MediaType, Response
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Example, OpenAPI, Server, Tag
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition
from msgspec import Struct

from app import __version__
from app.docs import docs_router, pages
from app.errors import PROBLEM, AppError, InvalidFields, OAuthError, OAuthProblem, Problem, Unavailable
from app.requests import MAX_ID
from app.settings import Settings

DESCRIPTION = """\
Accounts, OAuth2 sign-in, and items that belong to whoever made them.

Register with `POST /users`, sign in with `POST /token` or the *Authorize* button, then send the access token as
`Authorization: Bearer`. Errors are problem details (RFC 9457); their `instance` is the `X-Request-ID` of the
answer.
"""
TAGS = [
    Tag("Users", "Registration and accounts."),
    Tag("Authentication", "Signing in, by OAuth2's password grant (RFC 6749, section 4.3)."),
    Tag("Items", "What you have made; nobody else sees it."),
    Tag("Health", "For load balancers and supervisors."),
]

# The errors that follow from the kind of operation: what the document calls each, when it comes, and a detail.
ERRORS = {
    400: ("BadRequest", "The body or the query can't be read", "The body is not valid JSON"),
    401: ("Unauthorized", "No valid access token came with the request", "Not authenticated"),
    404: ("NotFound", "There is nothing under this id", "There is nothing at this path"),
    413: ("ContentTooLarge", "The body is too large", "The body is too large"),
    415: ("UnsupportedMediaType", "The body is of another media type", "The body must be application/json in UTF-8"),
    422: ("InvalidFields", "Fields or query parameters are missing, unknown or wrong", InvalidFields.detail),
    500: ("InternalServerError", "A fault, which the service's log has under the id", "Internal server error"),
    503: ("Unavailable", "The service is overloaded, or its database is away", Unavailable.detail),
}
OAUTH_ERROR = ("OAuthError", "The form can't be read, or lacks a parameter", "username is required")
HEADERS = {
    "X-Request-ID": "The request's id: the client's own where it is sane, else a random one",
    "Location": "Where the new resource is",
    "WWW-Authenticate": "How to sign in (RFC 6750)",
    "Retry-After": "Seconds to wait",
}
HEADER_OF = {201: "Location", 401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}


def raises(*errors: type[AppError]) -> dict[int, ResponseSpec]:
    """The `responses` of a handler that raises these, beyond what the rules give it."""
    responses: dict[int, ResponseSpec] = {}
    for error in errors:
        detail = error.detail or HTTPStatus(error.status).phrase
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


def example_of(error: type[AppError], detail: str) -> dict[str, Any]:
    """An error as it looks on the wire."""
    if issubclass(error, OAuthError):
        return {"error": error.error, "error_description": detail, "status": error.status, "detail": detail}
    return problem_example(error.status, detail)


def problem_example(status: int, detail: str) -> dict[str, Any]:
    """A problem detail as it looks on the wire."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": "9f86d081884c7d659a2feaa0c55ad015",
    }


def rules(handler: HTTPRouteHandler, operation: dict[str, Any]) -> Iterator[int]:
    """The statuses of the errors that an operation can give because of what it is."""
    public = handler.opt.get("exclude_from_auth")
    if not public:
        yield 401
    if "requestBody" in operation:
        yield from (400, 413, 415)
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", [])):
        yield 404
    if not handler.opt.get("lenient"):
        yield from (400, 422)  # For a query that is not UTF-8, and for one with unknown parameters.
    if not public or handler.parsed_fn_signature.parameters:  # It needs more than itself: the database, say.
        yield 503
    yield 500


class Document(OpenAPI):
    """Litestar's document, completed when it is first written out; the framework keeps the outcome."""

    handlers: dict[str, HTTPRouteHandler]

    def to_schema(self) -> dict[str, Any]:
        """The document as JSON has it."""
        document = super().to_schema()
        for operations in document["paths"].values():
            for operation in operations.values():
                complete(operation, self.handlers[operation["operationId"]])
        components = document["components"]
        components["schemas"] = schemas(self.handlers.values(), components["schemas"])
        components["responses"] = shared_answers()
        components["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
        }
        components["securitySchemes"] = {
            name: oauth2_scheme(scheme) for name, scheme in components.get("securitySchemes", {}).items()
        }
        return document


def complete(operation: dict[str, Any], handler: HTTPRouteHandler) -> None:
    """Say who may call an operation, what it takes and all that it can answer."""
    form = handler.opt.get("form")
    if handler.opt.get("exclude_from_auth"):
        operation["security"] = []
    if form:
        content = {RequestEncodingType.URL_ENCODED.value: {"schema": reference("schemas", form.__name__)}}
        operation["requestBody"] = {"required": True, "content": content}
    for parameter in operation.get("parameters", []):
        complete_parameter(parameter)
    # What else is there is a 400 that Litestar gives to invalid values, and the application doesn't.
    own = {str(status) for status in (handler.status_code, *(handler.responses or {}))}
    answers = {status: answer for status, answer in operation["responses"].items() if status in own}
    for status, answer in answers.items():
        complete_answer(int(status), answer)
    for error in rules(handler, operation):
        name = OAUTH_ERROR[0] if form and error == HTTPStatus.BAD_REQUEST else ERRORS[error][0]
        answers.setdefault(str(error), reference("responses", name))
    operation["responses"] = dict(sorted(answers.items()))


def complete_parameter(parameter: dict[str, Any]) -> None:
    """Say what is checked of every parameter, and name what a client may choose from.

    Litestar turns the bounds of integers into floats; here they are exact.
    """
    schema = parameter["schema"] = without_null(parameter["schema"])
    if "enum" in schema:
        schema["x-enum-varnames"] = [choice_name(value) for value in schema["enum"]]
    elif schema.get("type") == "string" and parameter["in"] == "query":
        schema["pattern"] = r"^[^\x00]*$"
    if schema.get("type") == "integer":
        schema |= {bound: int(schema[bound]) for bound in ("minimum", "maximum") if bound in schema}
        if parameter["in"] == "path":
            schema |= {"minimum": 1, "maximum": MAX_ID, "examples": [1]}


def choice_name(value: str) -> str:
    """What generated clients call a choice of theirs: `-title` is TITLE_DESCENDING."""
    name = value.removeprefix("-").upper()
    return name if value[0] != "-" else f"{name}_DESCENDING"


def complete_answer(status: int, answer: dict[str, Any]) -> None:
    """Give an answer the headers that it always has, and a short description for Litestar's long one."""
    if answer["description"] == HTTPStatus(status).description:
        answer["description"] = HTTPStatus(status).phrase
    names = ["X-Request-ID", *([HEADER_OF[status]] if status in HEADER_OF else [])]
    for header in answer.setdefault("headers", {}).values():
        header.setdefault("schema", {"type": "string"})
    # Litestar keeps a handler's headers as a set: sorted, the document is the same on every start.
    answer["headers"] = {name: reference("headers", name) for name in names} | dict(sorted(answer["headers"].items()))
    if all(content["schema"] == {"type": "null"} for content in answer.get("content", {}).values()):
        answer.pop("content", None)
    for content in answer.get("content", {}).values():
        content["schema"] = without_null(content["schema"])


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """None stands for an answer without a body, 304 say, or for a parameter that is absent: null is never sent."""
    parts: list[dict[str, Any]] = [part for part in schema.get("oneOf", []) if part != {"type": "null"}]
    if len(parts) != 1:
        return schema
    return parts[0] | {name: value for name, value in schema.items() if name != "oneOf"}


def reference(kind: str, name: str) -> dict[str, Any]:
    """A reference to a shared component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def shared_answers() -> dict[str, Any]:
    """The errors that operations refer to."""
    answers = {
        name: answer(status, description, PROBLEM, Problem, problem_example(status, detail))
        for status, (name, description, detail) in ERRORS.items()
    }
    content = answers[ERRORS[422][0]]["content"][PROBLEM]
    content["example"]["errors"] = [{"pointer": "/title", "detail": "is required"}]
    name, description, detail = OAUTH_ERROR
    answers[name] = answer(400, description, MediaType.JSON, OAuthProblem, example_of(OAuthError, detail))
    return answers


def answer(
    status: int, description: str, media_type: str, struct: type[Struct], example: dict[str, Any]
) -> dict[str, Any]:
    """One answer, with the headers of its status."""
    content = {"schema": reference("schemas", struct.__name__), "example": example}
    described = {"description": description, "content": {media_type: content}}
    complete_answer(status, described)
    return described


def schemas(handlers: Iterable[HTTPRouteHandler], frameworks: dict[str, Any]) -> dict[str, Any]:
    """The Structs as msgspec describes them, with the exact bounds, docstrings and bans that Litestar leaves out."""
    types: list[Any] = [Problem, OAuthProblem]
    for handler in handlers:
        returned = handler.parsed_fn_signature.return_type
        types.append(returned.inner_types[0].annotation if returned.is_subclass_of(Response) else returned.annotation)
        types += [spec.data_container for spec in (handler.responses or {}).values()]
        if handler.parsed_data_field:
            types.append(handler.parsed_data_field.annotation)
        if "form" in handler.opt:
            types.append(handler.opt["form"])
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for kind in types:
        if more := getattr(kind, "more_json_schema", None):
            components[kind.__name__] |= more
    for name, schema in components.items():
        complete_fields(schema.get("properties", {}), frameworks.get(name, {}).get("properties", {}))
    return dict(sorted(components.items()))


def complete_fields(fields: dict[str, Any], frameworks: dict[str, Any]) -> None:
    """Add what msgspec leaves out: that a Literal is a string, and the format of a datetime."""
    for name, field in fields.items():
        if "enum" in field:
            field.setdefault("type", "string")
        if "format" in frameworks.get(name, {}):
            field.setdefault("format", frameworks[name]["format"])


def oauth2_scheme(scheme: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI lets an OAuth2 scheme have; the framework's has fields of other schemes, and no scopes."""
    password = {"scopes": {}} | scheme["flows"]["password"]
    return {"type": scheme["type"], "description": scheme["description"], "flows": {"password": password}}


class DocumentConfig(OpenAPIConfig):
    """Litestar's configuration, which makes our Document."""

    handlers: dict[str, HTTPRouteHandler]

    def to_openapi_schema(self) -> OpenAPI:
        """The document, still without its operations."""
        document = Document(**vars(super().to_openapi_schema()))
        document.handlers = self.handlers
        return document


def openapi_config(settings: Settings) -> OpenAPIConfig:
    """The document at /openapi.json, Swagger UI at /docs and Scalar at /docs/scalar."""
    handlers: dict[str, HTTPRouteHandler] = {}

    def operation_id(handler: HTTPRouteHandler, _method: Method, _path: list[str | PathParameterDefinition]) -> str:
        handlers[handler.handler_name] = handler
        return handler.handler_name

    config = DocumentConfig(
        title="Backend API",
        version=__version__,
        description=DESCRIPTION,
        tags=TAGS,
        servers=[Server(url=f"{urlsplit(settings.url).path}/")],
        use_handler_docstrings=True,
        operation_id_creator=operation_id,
        openapi_router=docs_router(),
        render_plugins=[JsonRenderPlugin(media_type=MediaType.JSON), *pages()],
    )
    config.handlers = handlers
    config.default_plugin = None  # Else Litestar serves one of them at / as well.
    return config
