"""Conditional requests (RFC 9110, section 13): entity tags made of a row's version."""

from typing import Any

from litestar.connection import ASGIConnection


def entity_tag(version: int) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


def is_unchanged(request: ASGIConnection[Any, Any, Any, Any], tag: str) -> bool:
    """Whether the client's copy is current by its If-None-Match, which compares weakly."""
    return any(sent in {"*", tag} for sent in tags(request, "if-none-match"))


def tags(request: ASGIConnection[Any, Any, Any, Any], header: str) -> list[str]:
    """The entity tags that a header lists, over all its lines, without the mark of weak ones."""
    listed = ",".join(request.headers.getall(header, []))
    return [tag.strip().removeprefix("W/") for tag in listed.split(",") if tag.strip()]
