"""Streams of JSON lines (NDJSON): a list as a whole, one JSON object a line, for whoever accepts that."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from litestar import Request
from litestar.response import Stream

NDJSON = "application/x-ndjson"
LINES_KEY = "lines"
LINES = {LINES_KEY: True}
"""The option of a route whose list also comes as lines, as the OpenAPI document then says."""
VARY = {"Vary": "Accept"}
MOST_TYPES = 50
"""The most media types of an Accept header that are looked at."""
WEIGHT = re.compile(r"(?:^|;)\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|\Z)")


def wants_lines(request: Request[Any, Any, Any]) -> bool:
    """Return whether a client accepts lines, and rather than an array of JSON (RFC 9110, section 12.5.1)."""
    weights = {}
    for media_range in request.headers.get("accept", "").lower().split(",", MOST_TYPES)[:MOST_TYPES]:
        name, _, parameters = media_range.partition(";")
        weight = WEIGHT.search(parameters)
        weights[name.strip()] = float(weight[1]) if weight else 1.0
    return weights.get(NDJSON, 0.0) > weights.get("application/json", 0.0)


async def stream_lines(request: Request[Any, Any, Any], parts: AsyncGenerator[bytes]) -> Stream:
    """Return the answer that streams lines; the first part is made before, so that its errors have their status.

    For HEAD, which needs the headers alone, nothing more is read.
    """
    first = await anext(parts, b"")
    if request.scope["state"]["is_head"]:
        await parts.aclose()
    return Stream(resume(first, parts), media_type=NDJSON, headers=VARY)


async def resume(first: bytes, parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the first part, and then the others; end the source with the stream, also when the client goes."""
    async with aclosing(parts):
        yield first
        async for part in parts:
            yield part
