"""The address of the service: it is found, and no other program gets its port."""

import socket
from collections.abc import Iterator

import pytest

from app.operations.listening import address_of, claim
from app.settings.error import SettingsError


@pytest.fixture
def port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as program:
        yield program.getsockname()[1]


def taken(port: int) -> bool:
    """Return whether a service that starts now finds the port taken."""
    try:
        claim("127.0.0.1", port).close()
    except SettingsError:
        return True
    return False


def worker(port: int) -> socket.socket:
    """Return a socket that shares its port, as those of Granian's workers do."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "::1")],
)
def test_a_host_is_an_address_or_a_name(host: str, address: str) -> None:
    assert address_of(host) == address


@pytest.mark.parametrize("host", ["*", "nowhere.invalid", "localhost:8000", "http://localhost", "a" * 70, "1.2.3.4.5"])
def test_a_host_that_names_no_address_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="HOST: "):
        address_of(host)


def test_a_port_that_another_program_has_is_refused(port: int) -> None:
    with pytest.raises(SettingsError, match=f"PORT: {port} is taken at 127.0.0.1"):
        claim("127.0.0.1", port)
    with pytest.raises(SettingsError, match=f"PORT: {port} is taken at 0.0.0.0"):
        claim("0.0.0.0", port)  # noqa: S104 - on purpose


def test_an_address_of_another_machine_is_refused(free_tcp_port: int) -> None:
    with pytest.raises(SettingsError, match=r"HOST: 192\.0\.2\.1 is no address of this machine"):
        claim("192.0.2.1", free_tcp_port)


def test_workers_share_a_port_that_nobody_else_gets(free_tcp_port: int) -> None:
    """The port is taken while no worker listens, too; the claim itself accepts no connection."""
    with claim("127.0.0.1", free_tcp_port), worker(free_tcp_port) as first, worker(free_tcp_port) as second:
        assert taken(free_tcp_port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", free_tcp_port))
        first.listen()
        second.listen()
        assert taken(free_tcp_port)
        socket.create_connection(("127.0.0.1", free_tcp_port)).close()
    assert not taken(free_tcp_port)


def test_a_port_is_free_again_although_connections_have_just_ended(free_tcp_port: int) -> None:
    """A restart doesn't wait a minute for them."""
    with claim("127.0.0.1", free_tcp_port), worker(free_tcp_port) as listener:
        listener.listen()
        with socket.create_connection(("127.0.0.1", free_tcp_port)) as client:
            listener.accept()[0].close()  # The side that closes first remembers the connection for a minute.
            assert client.recv(1) == b""
    assert not taken(free_tcp_port)
    with claim("127.0.0.1", free_tcp_port), worker(free_tcp_port) as listener:
        listener.listen()
