"""Conditional requests (RFC 9110, section 13): entity tags made of a row's version."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

from litestar import Response
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter

from app.database.repository import Read, Versioned

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Do it only while the tag is one of these, even if a proxy has made it weak (`W/`). With `*`, or "
        "without the header, the last writer wins.",
        examples=[Example(summary="any version", value="*"), Example(summary="one version", value='"3"')],
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="The tags of the copies that the client has: when one is current, the answer is 304.",
        examples=[Example(value='"3"')],
    ),
]
TAGGED = [ResponseHeader(name="ETag", description="Names this version of it, for `If-Match`.", documentation_only=True)]
UNCHANGED = {304: ResponseSpec(None, description="The client's copy is current", generate_examples=False)}

TAG = re.compile(r'(?:W/)?"([^"]*)"')
MAX_TAGS = 100
"""The most tags of one header that are looked at; 64 KB of them would hold the loop for 10 ms."""
# Versions in the form that `entity_tag` gives them, and in no other.
VERSION = re.compile(r"[1-9][0-9]{0,18}\Z")


def entity_tag(version: int) -> str:
    """Return the strong entity tag of a version (section 8.8.3)."""
    return f'"{version}"'


def tagged(row: Versioned[Read]) -> Response[Read]:
    """Return what is shown of a row, with the tag of its version."""
    return Response(row.read, headers={"ETag": entity_tag(row.version)})


def tagged_if_changed(row: Versioned[Read], if_none_match: str | None) -> Response[Read | None]:
    """Return what `tagged` returns, or 304 with the tag alone when one of the client's copies is current."""
    headers = {"ETag": entity_tag(row.version)}
    if is_unchanged(if_none_match, row.version):
        return Response(None, status_code=304, headers=headers)
    return Response(row.read, headers=headers)


def is_unchanged(if_none_match: str | None, version: int) -> bool:
    """Return whether one of the client's copies is current, by weak comparison (section 8.8.3.2)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or str(version) in tags(if_none_match)


def expected_versions(if_match: str | None) -> frozenset[int] | None:
    """Return the versions that the client lets be changed, None for any.

    A weak tag counts as a strong one, against section 13.1.1: a proxy that compresses an answer weakens its tag, which
    still names the same version of the row.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    return frozenset(int(tag) for tag in tags(if_match) if VERSION.match(tag))


def tags(header: str) -> Iterator[str]:
    """Yield the opaque parts of the first MAX_TAGS tags of a header."""
    return (match[1] for match in islice(TAG.finditer(header), MAX_TAGS))
