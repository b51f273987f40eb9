"""The client of a request: its IP address, also behind proxies, and the network by which limits count it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeAlias

from litestar.connection import ASGIConnection

from app.security.limits import Client

DEVICE_LENGTH = 256
MOST_PROXIES = 20
"""One behind the other; what is said of more of them isn't looked at."""

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network


def calling_client(request: ASGIConnection[Any, Any, Any, Any]) -> Client:
    """Return the client that makes the request, for limits, the list of sessions and the log."""
    device = request.headers.get("user-agent", "").replace("\0", "")[:DEVICE_LENGTH]
    address = client_address(request)
    return Client(address, network_of(address), device)


def client_address(request: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the client's IP address, or an empty text when it isn't known.

    It is the peer's, unless the peer is a trusted proxy. Each proxy appends its own peer to X-Forwarded-For, so the
    list is read from its end to the first address that is no trusted proxy's. A client may have made up all that stands
    before it.
    """
    trusted: Sequence[IPNetwork] = request.app.state.trusted_proxies
    lines = request.headers.getall("x-forwarded-for", []) if trusted else []
    return forwarded_address(request.client.host if request.client else "", lines, trusted)


def forwarded_address(peer: str, lines: Sequence[str], trusted: Sequence[IPNetwork]) -> str:
    """Return the address that is behind the trusted proxies; the peer's own, where the peer is none of them."""
    hops = ",".join(lines).rsplit(",", MOST_PROXIES)[-MOST_PROXIES:]
    address = parse_address(peer)
    while address and hops and any(address in network for network in trusted):
        further = parse_address(hops.pop())
        if further is None:
            break
        address = further
    return str(address or "")


def network_of(address: str) -> str:
    """Return the network that limits count an address by: an IPv4 address itself, or the /64 of an IPv6 address.

    One subscriber has at least a /64 (RFC 6177), and could otherwise guess passwords from 2^64 addresses.
    """
    return str(IPv6Network((address, 64), strict=False)) if ":" in address else address


def parse_address(text: str) -> IPAddress | None:
    """Return the IP address in a text, which may have brackets, a port or a zone; None when there is none."""
    text = text.strip(' \t"')
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
