"""Headers of requests, as the outermost layer and the docs pages read them."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence

from litestar.types import HTTPScope

READ = frozenset(
    {b"accept-encoding", b"content-length", b"host", b"if-match", b"if-none-match", b"transfer-encoding"}
    | {b"x-request-id"}
)
LISTS = frozenset({b"accept-encoding", b"if-match", b"if-none-match"})
"""Headers that may come in several lines, which mean the same as one with commas (RFC 9110, section 5.3)."""
VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}\Z")
ZERO_WEIGHT = re.compile(r"q=0(\.0*)?\Z")
MOST_CODINGS = 20
"""The most codings of an Accept-Encoding that are looked at."""

Lines = Mapping[bytes, Sequence[bytes]]


def lines_by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """Return the lines of each header that this module reads."""
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in READ:
            lines.setdefault(name, []).append(value)
    return lines


def request_id(lines: Lines) -> str:
    """Return the first valid X-Request-ID of the client's, else a random one."""
    for value in lines.get(b"x-request-id", ()):
        if VALID_REQUEST_ID.match(value):
            return value.decode("ascii")
    return secrets.token_hex(16)


def names_one_host(scope: HTTPScope, lines: Lines) -> bool:
    """Return whether a request has the one Host header that HTTP/1.1 asks for (RFC 9112, section 3.2).

    It isn't empty: Granian adds an empty one where there is none, and no http URL has an empty host.
    """
    hosts = lines.get(b"host", ())
    return len(hosts) == 1 and hosts[0] != b"" if scope["http_version"] == "1.1" else len(hosts) <= 1


def combine_lists(scope: HTTPScope, lines: Lines) -> None:
    """Make one line of each list that came in several, since Litestar gives a handler the first one only."""
    # Not reported: `create_connection_value_extractor` in litestar/_kwargs/extractors.py.
    repeated = {name for name in LISTS if len(lines.get(name, ())) > 1}
    if repeated:
        others = [header for header in scope["headers"] if header[0] not in repeated]
        scope["headers"] = [*others, *((name, b", ".join(lines[name])) for name in sorted(repeated))]


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client takes gzip: named, or by `*`, with a weight that isn't 0 (RFC 9110, section 12.5.3)."""
    weights = {}
    for coding in accept_encoding.split(",", MOST_CODINGS)[:MOST_CODINGS]:
        name, _, weight = coding.partition(";")
        weights[name.strip().lower()] = weight.replace(" ", "").lower()
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return not ZERO_WEIGHT.match(weight)
