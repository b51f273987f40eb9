"""The client of a request: its address behind proxies, and the network that limits count it by."""

from ipaddress import ip_network

import pytest
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, Request, get
from litestar.datastructures import State

from app.http.client import client_address, network_of

PROXIES = ("10.0.0.0/8", "fd00::/8")


@get("/")
async def show(request: Request[object, object, State]) -> dict[str, str]:
    return {"address": client_address(request), "network": network_of(client_address(request))}


async def seen(peer: str | None, *forwarded: str, trusted: tuple[str, ...] = PROXIES) -> dict[str, str]:
    """Return the address that a service behind trusted proxies takes for the client's."""
    app = Litestar([show], state=State({"trusted_proxies": [ip_network(network) for network in trusted]}))
    transport = ASGITransport(app, client=(peer, 1234) if peer else None)  # type: ignore[arg-type] # None: a Unix socket has no address
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        headers = [("X-Forwarded-For", line) for line in forwarded]
        answer: dict[str, str] = (await client.get("/", headers=headers)).json()
        return answer


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),  # anybody can send the header
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),  # the client's own lie comes first
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),  # in a line of its own, too
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2,10.0.0.3"], "198.51.100.1"),  # a chain of proxies
        ("10.0.0.1", ["10.0.0.9, 10.0.0.2"], "10.0.0.9"),  # a client inside the trusted network
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , "], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, <script>, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ['"[2001:db8::1]:4711"'], "2001:db8::1"),
        ("fd00::1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),  # a socket for both kinds
        ("fe80::1%eth0", [], "fe80::1"),
        ("unix:/run/socket", ["198.51.100.1"], ""),
    ],
)
async def test_the_client_is_whom_the_last_trusted_proxy_saw(peer: str, forwarded: list[str], address: str) -> None:
    assert (await seen(peer, *forwarded))["address"] == address


async def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert await seen("10.0.0.1", "198.51.100.1", trusted=()) == {"address": "10.0.0.1", "network": "10.0.0.1"}


async def test_all_addresses_of_one_ipv6_network_count_as_one_client() -> None:
    one, same, other = [await seen(f"2001:db8:0:{tail}") for tail in ("1::1", "1:2:3:4:5", "2::1")]
    assert one["network"] == same["network"] == "2001:db8:0:1::/64"
    assert other["network"] == "2001:db8:0:2::/64"


async def test_a_request_without_a_peer_has_no_address() -> None:
    assert await seen(None, "198.51.100.1") == {"address": "", "network": ""}
