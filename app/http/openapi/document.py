"""The OpenAPI document: Litestar's, completed by the rules and the repairs."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import MediaType, Response
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import OpenAPI, Server, Tag
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition

from app import __version__
from app.http.access import FORM_KEY, is_public
from app.http.docs.pages import docs_router, pages
from app.http.openapi.repairs import complete_answer, complete_fields, complete_parameter, oauth2_scheme
from app.http.openapi.rules import ERRORS, OAUTH_ERROR, possible_errors, reference, shared_answers, shared_headers
from app.http.problems import OAuthProblem, Problem
from app.settings import Settings

DESCRIPTION = """\
Accounts, OAuth2 sign-in, and resources that belong to whoever made them.

Register with `POST /users`, sign in with `POST /token` or the *Authorize* button, then send the access token as
`Authorization: Bearer`. Errors are problem details (RFC 9457); their `instance` is the `X-Request-ID` of the
answer.
"""


class Document(OpenAPI):
    """Litestar's document, completed when it is first written out; the framework keeps the outcome."""

    handlers: dict[str, HTTPRouteHandler]

    def to_schema(self) -> dict[str, Any]:
        """Return the document as JSON has it."""
        document = super().to_schema()
        for operations in document["paths"].values():
            for operation in operations.values():
                complete(operation, self.handlers[operation["operationId"]])
        components = document["components"]
        components["schemas"] = schemas(self.handlers.values(), components["schemas"])
        components["responses"] = shared_answers()
        components["headers"] = shared_headers()
        components["securitySchemes"] = {
            name: oauth2_scheme(scheme) for name, scheme in components.get("securitySchemes", {}).items()
        }
        return document


def complete(operation: dict[str, Any], handler: HTTPRouteHandler) -> None:
    """Say who may call an operation, what it takes and all that it can answer."""
    form = handler.opt.get(FORM_KEY)
    if is_public(handler):
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
    for error in possible_errors(handler, operation):
        name = OAUTH_ERROR[0] if form and error == HTTPStatus.BAD_REQUEST else ERRORS[error][0]
        answers.setdefault(str(error), reference("responses", name))
    operation["responses"] = dict(sorted(answers.items()))


def schemas(handlers: Iterable[HTTPRouteHandler], frameworks: dict[str, Any]) -> dict[str, Any]:
    """Return the Structs as msgspec describes them, with the bounds and docstrings that Litestar leaves out."""
    types: list[Any] = [Problem, OAuthProblem]
    for handler in handlers:
        returned = handler.parsed_fn_signature.return_type
        types.append(returned.inner_types[0].annotation if returned.is_subclass_of(Response) else returned.annotation)
        types += [spec.data_container for spec in (handler.responses or {}).values()]
        if handler.parsed_data_field:
            types.append(handler.parsed_data_field.annotation)
        if FORM_KEY in handler.opt:
            types.append(handler.opt[FORM_KEY])
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for kind in types:
        if more := getattr(kind, "more_json_schema", None):
            components[kind.__name__] |= more
    for name, schema in components.items():
        complete_fields(schema.get("properties", {}), frameworks.get(name, {}).get("properties", {}))
    return dict(sorted(components.items()))


class DocumentConfig(OpenAPIConfig):
    """Litestar's configuration, which makes our Document."""

    handlers: dict[str, HTTPRouteHandler]

    def to_openapi_schema(self) -> OpenAPI:
        """Return the document, still without its operations."""
        document = Document(**vars(super().to_openapi_schema()))
        document.handlers = self.handlers
        return document


def openapi_config(settings: Settings, tags: Sequence[Tag]) -> OpenAPIConfig:
    """Return what serves the document at /openapi.json, Swagger UI at /docs and Scalar at /docs/scalar.

    `tags` are the document's sections, in their order.
    """
    handlers: dict[str, HTTPRouteHandler] = {}

    def operation_id(handler: HTTPRouteHandler, _method: Method, _path: list[str | PathParameterDefinition]) -> str:
        handlers[handler.handler_name] = handler
        return handler.handler_name

    config = DocumentConfig(
        title="Backend API",
        version=__version__,
        description=DESCRIPTION,
        tags=list(tags),
        servers=[Server(url=f"{urlsplit(settings.url).path}/")],
        use_handler_docstrings=True,
        operation_id_creator=operation_id,
        openapi_router=docs_router(),
        render_plugins=[JsonRenderPlugin(media_type=MediaType.JSON), *pages()],
    )
    config.handlers = handlers
    config.default_plugin = None  # Else Litestar serves one of them at / as well.
    return config
