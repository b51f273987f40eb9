"""The header that all pages share, so that the docs and the pages for people lead to each other."""

from collections.abc import Mapping
from html import escape
from typing import Any

from litestar.connection import ASGIConnection

HEADER = (
    '<header class="site-header"><a class="site-name" href="{root}">{title}</a>'
    '<nav aria-label="Site">{links}{more}</nav></header>'
)


class SiteHeader:
    """The header: the site's name, and the links of the features."""

    def __init__(self, title: str, links: Mapping[str, str]) -> None:
        """`links` has the links' texts, by paths of this service."""
        self.title = title
        self.links = links

    def __call__(self, root: str, more: str = "") -> str:
        """Return the header as HTML; `root` is the relative address of the service, and `more` stands after the links.

        Its addresses are all relative, since a proxy may serve the page below a prefix of its own.
        """
        links = {"docs": "Docs", **self.links}
        anchors = "".join(f'<a href="{root}{path}">{escape(text)}</a>' for path, text in links.items())
        return HEADER.format(root=root or "./", title=escape(self.title), links=anchors, more=more)


def path_to_root(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the relative address of the service's root, seen from the request's path, which may end in a slash."""
    path = connection.scope["raw_path"].decode().removeprefix(connection.scope["root_path"])
    return "../" * (path.count("/") - 1)
