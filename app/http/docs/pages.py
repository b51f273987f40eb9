"""Swagger UI and Scalar, to read the OpenAPI document in.

Every byte of the pages comes from this server: their bundles are data files of two wheels, whose code is never
imported.
"""

import gzip
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from threading import Lock
from typing import Any

from litestar import MediaType, Request, Response, Router, get
from litestar.datastructures import CacheControlHeader, ResponseHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler

from app.http.access import LENIENT, PUBLIC
from app.http.headers import accepts_gzip
from app.http.site import SiteHeader, path_to_root

AnyRequest = Request[Any, Any, Any]

READING = Lock()
"""Held while an asset is read or compressed, so that many who ask for it at first have it done once."""
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
OWN_ASSETS = Path(__file__).parent / "assets"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/svg+xml" href="{assets}/favicon.svg">
{styles}</head>
<body>
{header}
<div id="page" data-document="{root}openapi.json" data-client="{client}"></div>
{scripts}</body>
</html>
"""

REDIRECT_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Signed in</title>
<script src="assets/{version}/oauth2-redirect.js"></script>
</head>
<body></body>
</html>
"""
REDIRECT_POLICY = "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
DOCS_CLIENT = "docs"
"""The name of the application by which the pages sign people in, where the service has applications."""
SWAGGER_REDIRECT, SCALAR_REDIRECT = "docs/oauth2-redirect.html", "docs/scalar"
"""The paths to which a sign-in by the pages comes back; Scalar reads the answer in the window that it has opened."""


def bundled(wheel: str, folder: str, *names: str) -> dict[str, Path]:
    """Return where a wheel has its data files, by their names."""
    return {name: Path(str(distribution(wheel).locate_file(f"{folder}/{name}"))) for name in names}


ASSETS = {
    **bundled(
        "flask-swagger-ui", "flask_swagger_ui/dist", "swagger-ui-bundle.js", "swagger-ui.css", "oauth2-redirect.js"
    ),
    **bundled("flask-openapi-scalar", "flask_openapi_scalar/templates/scalar/js", "scalar.standalone.js"),
    **{name: OWN_ASSETS / name for name in ("favicon.svg", "scalar.js", "site.css", "swagger.js")},
}


@cache
def assets_version() -> str:
    """Return a name for the present content of the assets, which a client may therefore keep for ever."""
    digest = sha256()
    for path in ASSETS.values():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def asset(name: str) -> bytes:
    """Return an asset, read when it is first asked for: in memory once, however many clients are being sent it."""
    return ASSETS[name].read_bytes()


@cache
def compressed(name: str) -> bytes:
    """Return an asset in gzip, made when it is first asked for."""
    return gzip.compress(asset(name), compresslevel=6, mtime=0)


@get(
    "/docs/assets/{version:str}/{name:str}",
    sync_to_thread=True,
    cache_control=CacheControlHeader(public=True, max_age=31_536_000, immutable=True),
)
def read_asset(request: AnyRequest, version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Send a script, style or icon of the pages."""
    if version != assets_version() or name not in ASSETS:
        raise NotFoundException
    headers = {"Vary": "Accept-Encoding"}
    with READING:
        if accepts_gzip(request.headers.get("Accept-Encoding", "")):
            content = compressed(name)
            headers["Content-Encoding"] = "gzip"
        else:
            content = asset(name)
    return Response(content, media_type=MEDIA_TYPES[ASSETS[name].suffix], headers=headers)


@get(f"/{SWAGGER_REDIRECT}", media_type=MediaType.HTML)
async def read_redirect_page() -> Response[str]:
    """Send the page to which people come back who sign in from Swagger UI: it tells the one that has opened it."""
    page = REDIRECT_PAGE.format(version=assets_version())
    return Response(page, headers={"Content-Security-Policy": REDIRECT_POLICY})


class Page(OpenAPIRenderPlugin):
    """A page whose scripts read the document."""

    def __init__(
        self,
        path: str,
        header: SiteHeader,
        client: str,
        *,
        styles: Iterable[str],
        scripts: Iterable[str],
        style_sources: str,
    ) -> None:
        """Take the names of the assets, and where the page's styles may come from (CSP's `style-src`).

        `client` is the application by which the page signs people in; it is empty where there is none.
        """
        super().__init__(path=path)
        self.header = header
        self.client = client
        self.styles = styles
        self.scripts = scripts
        self.policy = (
            f"default-src 'none'; script-src 'self'; style-src {style_sources}; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        """Return the page. Its addresses are all relative, since a proxy may serve it below a prefix of its own."""
        root = path_to_root(request)
        assets = f"{root}docs/assets/{assets_version()}"
        return PAGE.format(
            title=openapi_schema["info"]["title"],
            root=root,
            client=self.client,
            assets=assets,
            header=self.header(root),
            styles="".join(f'<link rel="stylesheet" href="{assets}/{name}">\n' for name in self.styles),
            scripts="".join(f'<script src="{assets}/{name}"></script>\n' for name in self.scripts),
        ).encode()

    def receive_router(self, router: Router) -> None:
        """Give the page's route its policy.

        Litestar makes the routes of plugins itself, and asks for no headers. Not reported: `create_handler` in
        litestar/_openapi/plugin.py. Delete when a plugin can name the headers of its answer.
        """
        header = ResponseHeader(name="Content-Security-Policy", value=self.policy)
        for handler in router.route_handler_method_map[self.paths[0]].values():
            if isinstance(handler, HTTPRouteHandler):
                handler.response_headers = [header]


class DocsRouter(Router):
    """The routes of the document and its pages."""

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Add what is given, but not Litestar's HTML page for unknown paths: they are problems, as elsewhere.

        Litestar adds it to every router of its documents, and no option turns it off. Not reported:
        `not_found_handler` in litestar/_openapi/plugin.py. Delete when it can be turned off.
        """
        if isinstance(value, HTTPRouteHandler) and "/{path:str}" in value.paths:
            return []
        return super().register(value)


def docs_router(client: str) -> DocsRouter:
    """Return the router that Litestar adds the document and the pages to; its routes are public.

    `client` is the application by which the pages sign people in, if there is one.
    """
    return DocsRouter(
        "/",
        route_handlers=[read_asset, read_redirect_page] if client else [read_asset],
        include_in_schema=False,
        opt=PUBLIC | LENIENT,
        cache_control=CacheControlHeader(no_cache=True),
    )


def pages(title: str, links: Mapping[str, str], client: str) -> list[Page]:
    """Return Swagger UI at /docs and Scalar at /docs/scalar, with the header that all pages share.

    `client` is the application by which they sign people in, if there is one.
    """
    header = SiteHeader(title, links)
    return [
        Page(
            "/docs",
            header,
            client,
            styles=["swagger-ui.css", "site.css"],
            scripts=["swagger-ui-bundle.js", "swagger.js"],
            style_sources="'self'",
        ),
        # Scalar's bundle brings its styles along in the script.
        Page(
            f"/{SCALAR_REDIRECT}",
            header,
            client,
            styles=["site.css"],
            scripts=["scalar.standalone.js", "scalar.js"],
            style_sources="'self' 'unsafe-inline'",
        ),
    ]
