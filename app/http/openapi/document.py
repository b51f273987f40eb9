"""The OpenAPI document: Litestar's, completed by the rules and the repairs."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from litestar import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import OpenAPI, Server, Tag
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition

from app import __version__
from app.http.docs.pages import DOCS_CLIENT, docs_router, pages
from app.http.grants import Grant
from app.http.openapi.changes import Node
from app.http.openapi.repairs import DOCUMENT_REPAIRS, OPERATION_REPAIRS
from app.http.openapi.rules import DOCUMENT_RULES, OPERATION_RULES, describe_flows, describe_grants
from app.settings import DEFAULT_TITLE, Settings

TITLE = DEFAULT_TITLE
DESCRIPTION = """\
Accounts, OAuth2 sign-in, and resources that belong to whoever made them.

Register with `POST /users`, sign in with `POST /token` or the *Authorize* button, then send the access token as
`Authorization: Bearer`. Errors are problem details (RFC 9457); their `instance` is the `X-Request-ID` of the
answer.
"""
ABOUT: dict[str, Any] = {"title": TITLE, "version": __version__, "description": DESCRIPTION}


class Document(OpenAPI):
    """Litestar's document, repaired and completed when it is first written out; the framework keeps the outcome."""

    handlers: dict[str, HTTPRouteHandler]
    grants: Mapping[str, Grant]
    authorization_url: str

    def to_schema(self) -> Node:
        """Return the document as JSON has it."""
        document = super().to_schema()
        for path in document["paths"].values():
            for operation in path.values():
                for change in (*OPERATION_REPAIRS, *OPERATION_RULES):
                    change(operation, self.handlers[operation["operationId"]])
        for change_all in (*DOCUMENT_REPAIRS, *DOCUMENT_RULES):
            change_all(document, self.handlers.values())
        describe_grants(document, self.handlers.values(), self.grants)
        describe_flows(document, self.grants, self.authorization_url)
        return document


class DocumentConfig(OpenAPIConfig):
    """Litestar's configuration, which makes our Document.

    Litestar has no hook for a document that is whole: it adds the operations to what this makes. Not reported:
    `_build_openapi` in litestar/_openapi/plugin.py. Delete, with the class above, when it has one.
    """

    handlers: dict[str, HTTPRouteHandler]
    grants: Mapping[str, Grant]
    authorization_url: str

    def to_openapi_schema(self) -> OpenAPI:
        """Return the document, still without its operations."""
        document = Document(**vars(super().to_openapi_schema()))
        document.handlers, document.grants = self.handlers, self.grants
        document.authorization_url = self.authorization_url
        return document


def openapi_config(
    settings: Settings,
    tags: Sequence[Tag],
    grants: Mapping[str, Grant],
    links: Mapping[str, str],
    sign_in_url: str = "",
) -> OpenAPIConfig:
    """Return what serves the document at /openapi.json, Swagger UI at /docs and Scalar at /docs/scalar.

    `tags` are the document's sections, in their order, `grants` those of the token endpoint, and `links` those of the
    header that all pages share. At `sign_in_url` people sign in; it is empty where they can't.
    """
    handlers: dict[str, HTTPRouteHandler] = {}

    def operation_id(handler: HTTPRouteHandler, _method: Method, _path: list[str | PathParameterDefinition]) -> str:
        handlers[handler.handler_name] = handler
        return handler.handler_name

    config = DocumentConfig(
        **ABOUT,
        tags=list(tags),
        servers=[Server(url=f"{urlsplit(settings.url).path}/")],
        use_handler_docstrings=True,
        operation_id_creator=operation_id,
        **what_serves(settings.pages_title, links, DOCS_CLIENT if sign_in_url else ""),
    )
    config.handlers, config.grants, config.authorization_url = handlers, grants, sign_in_url
    # Else Litestar serves the first of them at / as well. Not reported: `__post_init__` in litestar/openapi/config.py.
    config.default_plugin = None
    return config


def what_serves(title: str, links: Mapping[str, str], client: str) -> dict[str, Any]:
    """Return what serves the document and its pages; `client` is the application by which they sign people in."""
    plugins = [JsonRenderPlugin(media_type=MediaType.JSON), *pages(title, links, client)]
    return {"openapi_router": docs_router(client), "render_plugins": plugins}
