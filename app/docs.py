"""The OpenAPI document, and Swagger UI and Scalar to read it in.

What an operation can answer follows from what it is: the rules here declare it once, for all handlers. Every byte of the pages
comes from this server: their bundles are data files of two wheels, whose code is never imported.
"""

import gzip
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.datastructures import CacheControlHeader, ResponseHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import OpenAPI, Server, Tag
from litestar.params import FromPath
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler, Method
from litestar.types.internal_types import PathParameterDefinition

from app import __version__
from app.errors import PROBLEM, AppError, InvalidFields, OAuthError, OAuthProblem, Problem, Unavailable
from app.requests import LENIENT, MAX_ID
from app.settings import Settings

DESCRIPTION = """\
Accounts, OAuth2 sign-in, and items that belong to whoever made them.

Register with `POST /users`, sign in with `POST /token` or the *Authorize* button, then send the access token as
`Authorization: Bearer`. Errors are problem details (RFC 9457); their `instance` is the `X-Request-ID` of the answer.
"""
TAGS = [
    Tag("Users", "Registration and your own account."),
    Tag("Authentication", "Signing in, by OAuth2's password grant (RFC 6749, section 4.3)."),
    Tag("Items", "What you have made; nobody else sees it."),
    Tag("Health", "For load balancers and supervisors."),
]

# The errors that follow from the kind of operation: what the document calls each, when it comes, and a detail to show.
ERRORS = {
    400: ("BadRequest", "The body can't be read", "The body is not valid JSON"),
    401: ("Unauthorized", "No access token came, or one that is invalid, expired or revoked", "Not authenticated"),
    404: ("NotFound", "There is nothing under this id", "There is nothing at this path"),
    413: ("ContentTooLarge", "The body is too large", "The body is too large"),
    415: ("UnsupportedMediaType", "The body is of another media type", "The body must be application/json in UTF-8"),
    422: ("InvalidFields", "Fields or query parameters are missing, unknown or wrong", InvalidFields.detail),
    500: (
        "InternalServerError",
        "A fault of the service; its log has it under the request's id",
        "Internal server error",
    ),
    503: ("Unavailable", "The service is overloaded, or its database is away", Unavailable.detail),
}
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
        oauth = issubclass(error, OAuthError)
        known = responses.get(error.status)
        responses[error.status] = ResponseSpec(
            data_container=OAuthProblem if oauth else Problem,
            media_type=MediaType.JSON if oauth else PROBLEM,
            description=f"{known.description}; {error.detail}" if known else error.detail,
            generate_examples=False,
        )
    return responses


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
        yield 422
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
        components["schemas"] = schemas(self.handlers.values())
        components["responses"] = {ERRORS[status][0]: problem_answer(status) for status in ERRORS}
        components["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
        }
        components["securitySchemes"] = {
            name: oauth2_scheme(scheme) for name, scheme in components.get("securitySchemes", {}).items()
        }
        return document


def complete(operation: dict[str, Any], handler: HTTPRouteHandler) -> None:
    """Say who may call an operation, which ids it takes, and all that it can answer."""
    if handler.opt.get("exclude_from_auth"):
        operation["security"] = []
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" and parameter["schema"].get("type") == "integer":
            parameter["schema"] |= {"minimum": 1, "maximum": MAX_ID}
    # What else is there is a 400 that Litestar gives to invalid values, and the application doesn't.
    own = {str(status) for status in (handler.status_code, *(handler.responses or {}))}
    responses = {status: answer for status, answer in operation["responses"].items() if status in own}
    for status, answer in responses.items():
        complete_answer(int(status), answer)
    for status in rules(handler, operation):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{ERRORS[status][0]}"})
    operation["responses"] = dict(sorted(responses.items()))


def complete_answer(status: int, answer: dict[str, Any]) -> None:
    """Give an answer the headers that it always has, and a short description where Litestar took Python's long one."""
    if answer["description"] == HTTPStatus(status).description:
        answer["description"] = HTTPStatus(status).phrase
    names = ["X-Request-ID", *([HEADER_OF[status]] if status in HEADER_OF else [])]
    answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names} | answer.get("headers", {})


def problem_answer(status: int) -> dict[str, Any]:
    """An error that several operations share, as a problem detail."""
    _, description, detail = ERRORS[status]
    example: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": "9f86d081884c7d659a2feaa0c55ad015",
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        example["errors"] = [{"pointer": "/title", "detail": "is required"}]
    schema = {"$ref": "#/components/schemas/Problem"}
    answer = {"description": description, "content": {PROBLEM: {"schema": schema, "example": example}}}
    complete_answer(status, answer)
    return answer


def schemas(handlers: Iterable[HTTPRouteHandler]) -> dict[str, Any]:
    """The Structs as msgspec describes them: unlike Litestar, it knows exact bounds, docstrings and what is forbidden."""
    types: list[Any] = [Problem]
    for handler in handlers:
        answer = handler.parsed_fn_signature.return_type
        types.append(answer.inner_types[0].annotation if answer.is_subclass_of(Response) else answer.annotation)
        types += [spec.data_container for spec in (handler.responses or {}).values()]
        if handler.parsed_data_field:
            types.append(handler.parsed_data_field.annotation)
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return dict(sorted(components.items()))


def oauth2_scheme(scheme: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI lets an OAuth2 scheme have; the framework's has fields of other schemes too, and no scopes."""
    password = {"scopes": {}} | scheme["flows"]["password"]
    return {"type": scheme["type"], "description": scheme["description"], "flows": {"password": password}}


# The pages ------------------------------------------------------------------------------------------------------------

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
OWN_ASSETS = Path(__file__).parent / "docs_assets"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/svg+xml" href="{assets}/favicon.svg">
{styles}</head>
<body>
<div id="page" data-document="{root}openapi.json"></div>
{scripts}</body>
</html>
"""


def bundled(wheel: str, folder: str, *names: str) -> dict[str, Path]:
    """Where a wheel has its data files."""
    return {name: Path(str(distribution(wheel).locate_file(f"{folder}/{name}"))) for name in names}


ASSETS = {
    **bundled("flask-swagger-ui", "flask_swagger_ui/dist", "swagger-ui-bundle.js", "swagger-ui.css"),
    **bundled("flask-openapi-scalar", "flask_openapi_scalar/templates/scalar/js", "scalar.standalone.js"),
    **{name: OWN_ASSETS / name for name in ("favicon.svg", "scalar.js", "swagger.js")},
}


@cache
def assets_version() -> str:
    """Names the present content of the assets, which a client may therefore keep for ever."""
    digest = sha256()
    for path in ASSETS.values():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def compressed(name: str) -> bytes:
    """An asset in gzip, made when it is first asked for."""
    return gzip.compress(ASSETS[name].read_bytes(), compresslevel=6, mtime=0)


@get(
    "/docs/assets/{version:str}/{name:str}",
    sync_to_thread=True,
    cache_control=CacheControlHeader(public=True, max_age=31_536_000, immutable=True),
)
def read_asset(request: Request[Any, Any, Any], version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """A script, style or icon of the pages."""
    if version != assets_version() or name not in ASSETS:
        raise NotFoundException
    headers = {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        content = compressed(name)
        headers["Content-Encoding"] = "gzip"
    else:
        content = ASSETS[name].read_bytes()
    return Response(content, media_type=MEDIA_TYPES[ASSETS[name].suffix], headers=headers)


class Page(OpenAPIRenderPlugin):
    """A page that reads the document with a script."""

    def __init__(self, path: str, *assets: str, inline_styles: bool = False) -> None:
        super().__init__(path=path)
        self.assets = assets
        self.style_sources = "'self' 'unsafe-inline'" if inline_styles else "'self'"

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page, which finds everything by relative addresses: a proxy may serve it below a prefix of its own."""
        root = path_to_root(request)
        assets = f"{root}docs/assets/{assets_version()}"
        return PAGE.format(
            title=openapi_schema["info"]["title"],
            root=root,
            assets=assets,
            styles="".join(
                f'<link rel="stylesheet" href="{assets}/{name}">\n' for name in self.assets if name.endswith(".css")
            ),
            scripts="".join(
                f'<script src="{assets}/{name}"></script>\n' for name in self.assets if name.endswith(".js")
            ),
        ).encode()

    def receive_router(self, router: Router) -> None:
        """Give the page's route a policy: Litestar leaves a plugin no other place for headers."""
        policy = (
            f"default-src 'none'; script-src 'self'; style-src {self.style_sources}; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        for handler in router.route_handler_method_map[self.paths[0]].values():
            handler.response_headers = frozenset({ResponseHeader(name="Content-Security-Policy", value=policy)})


def path_to_root(request: Request[Any, Any, Any]) -> str:
    """The relative address of the service's root, seen from the request's path, which may end in a slash."""
    path = request.scope["raw_path"].decode().removeprefix(request.scope["root_path"])
    return "../" * (path.count("/") - 1)


class DocsRouter(Router):
    """The routes of the document and its pages, all of them public."""

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Leave Litestar's HTML page for unknown paths out: they are problems, as elsewhere."""
        if isinstance(value, HTTPRouteHandler) and "/{path:str}" in value.paths:
            return []
        return super().register(value)


class DocsConfig(OpenAPIConfig):
    handlers: dict[str, HTTPRouteHandler]

    def to_openapi_schema(self) -> OpenAPI:
        document = Document(**vars(super().to_openapi_schema()))
        document.handlers = self.handlers
        return document


def openapi_config(settings: Settings) -> OpenAPIConfig:
    """Litestar's configuration of the document, at /openapi.json, and of the pages at /docs and /docs/scalar."""
    handlers: dict[str, HTTPRouteHandler] = {}

    def operation_id(handler: HTTPRouteHandler, _method: Method, _path: list[str | PathParameterDefinition]) -> str:
        handlers[handler.handler_name] = handler
        return handler.handler_name

    config = DocsConfig(
        title="Backend API",
        version=__version__,
        description=DESCRIPTION,
        tags=TAGS,
        servers=[Server(url=urlsplit(settings.url).path or "/")],
        use_handler_docstrings=True,
        operation_id_creator=operation_id,
        openapi_router=DocsRouter(
            "/",
            route_handlers=[read_asset],
            include_in_schema=False,
            opt={"exclude_from_auth": True} | LENIENT,
            cache_control=CacheControlHeader(no_cache=True),
        ),
        render_plugins=[
            JsonRenderPlugin(media_type=MediaType.JSON),
            Page("/docs", "swagger-ui.css", "swagger-ui-bundle.js", "swagger.js"),
            Page("/docs/scalar", "scalar.standalone.js", "scalar.js", inline_styles=True),
        ],
    )
    config.handlers = handlers
    config.default_plugin = None  # Else Litestar serves one of them at / as well.
    return config
