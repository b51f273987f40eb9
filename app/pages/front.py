"""The front page, what browsers look for at known places, and what the pages load."""

from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from app import __version__
from app.http.access import LENIENT, PUBLIC
from app.pages.answers import is_browser
from app.pages.looks import MEDIA_TYPES
from app.pages.visit import FOR_ALL, Site, Visiting

FOR_EVER = CacheControlHeader(public=True, max_age=31_536_000, immutable=True)


@get("/", opt=FOR_ALL)
async def front(visit: Visiting) -> Response[Any]:
    """Show a browser where things are, and tell any other client in JSON."""
    if is_browser(visit.request):
        answer = visit.page("front.html")
    else:
        url = visit.site.settings.url
        title = visit.site.settings.pages_title
        about = {"name": title, "version": __version__, "docs": f"{url}/docs", "openapi": f"{url}/openapi.json"}
        answer = Response(about, media_type=MediaType.JSON)
    answer.headers["Vary"] = "Accept"
    return answer


@get("/account/assets/{version:str}/{name:str}", opt=PUBLIC | LENIENT, sync_to_thread=False, cache_control=FOR_EVER)
def read_asset(request: Request[Any, Any, Any], version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Send the stylesheet or a script."""
    site: Site = request.app.state.site
    if version != site.assets.version or name not in site.assets.contents:
        raise NotFoundException
    return Response(site.assets.contents[name], media_type=MEDIA_TYPES[f".{name.rpartition('.')[2]}"])


def change_password(account_url: str) -> HTTPRouteHandler:
    """Return the route by which password managers find the page that changes a password."""

    @get("/.well-known/change-password", opt=PUBLIC | LENIENT, sync_to_thread=False, include_in_schema=False)
    def to_change_password() -> Redirect:
        """Lead to the page."""
        return Redirect(f"{account_url}/password", status_code=302)

    return to_change_password
