"""Redirect URIs: which may be registered, when two are the same, and how an answer goes back by one."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlencode, urlsplit

MAX_LENGTH = 2000
PRINTABLE = re.compile(r"[!-~]+\Z")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
# A loopback address, its port, and the rest. Nothing else may stand before the path: no user, and no further digits.
LOOPBACK = re.compile(r"(http://(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]))(?::([1-9]\d{0,4}))?((?:[/?].*)?)\Z")
# A host as origins and Content-Security-Policies have it, no longer than a name in DNS; and a port.
AUTHORITY = re.compile(r"(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d+)?\Z")
MAX_PORT = 65535
DEFAULT_PORTS = {"http": 80, "https": 443}


def reason_against(uri: str) -> str | None:
    """Return the reason to refuse a redirect URI at registration; None when it is accepted."""
    if len(uri) > MAX_LENGTH or not PRINTABLE.match(uri) or "\\" in uri:
        return f"must be a URI of at most {MAX_LENGTH} characters"
    if "#" in uri or "*" in uri:
        return "must have no fragment and no wildcard"
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - it raises for what is no port
    except ValueError:
        return "must be a URI"
    if not uri.startswith(f"{parts.scheme}:") or not SCHEME.match(parts.scheme):
        return "must begin with a scheme in lower case"
    return reason_against_parts(parts)


def reason_against_parts(parts: SplitResult) -> str | None:
    """Return the reason to refuse a redirect URI for its scheme or its host (RFC 8252, section 7)."""
    if parts.scheme not in DEFAULT_PORTS:
        return None if "." in parts.scheme else "must be https, or a private scheme with a dot"
    if not parts.hostname or "@" in parts.netloc:
        return "must name a host, and no user"
    if not AUTHORITY.match(parts.netloc):
        return "must name a host by small letters, digits, hyphens and dots, or by an IP address"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "must be https, or http on a loopback IP address"
    return None


def is_loopback(host: str) -> bool:
    """Return whether a host is an IP address of this very machine. A name such as `localhost` may lead elsewhere."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Return whether a redirect URI is one of those that are registered, character by character.

    The port of a loopback address may be any, since a program on the person's own machine takes whichever is free
    (RFC 8252, section 7.3).
    """
    return any(uri == other or (is_portless(uri) and portless(uri) == portless(other)) for other in registered)


def is_portless(uri: str) -> bool:
    """Return whether a redirect URI leads to a loopback address, at a port that there is."""
    match = LOOPBACK.match(uri)
    return match is not None and int(match[2] or DEFAULT_PORTS["http"]) <= MAX_PORT


def portless(uri: str) -> str:
    """Return a redirect URI to a loopback address without its port; any other as it is."""
    match = LOOPBACK.match(uri)
    return match[1] + match[3] if match else uri


def origin_of(uri: str) -> str | None:
    """Return the web origin of a redirect URI, as browsers write it; None for that of a private scheme."""
    parts = urlsplit(uri)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in {None, DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def source_of(uri: str) -> str:
    """Return what a Content-Security-Policy names to let a form lead to a redirect URI: its origin or its scheme."""
    return origin_of(uri) or f"{urlsplit(uri).scheme}:"


def answer_to(uri: str, parameters: Mapping[str, str | None]) -> str:
    """Return a redirect URI with the parameters of an answer, beside those that it has; None stands for none."""
    given = {name: value for name, value in parameters.items() if value is not None}
    separator = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return f"{uri}{separator}{urlencode(given)}"
