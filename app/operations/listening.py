"""The address that the service listens on, which is claimed before anything is announced."""

import errno
import socket
import sys

from app.settings.error import SettingsError


def address_of(host: str) -> str:
    """Return the IP address that HOST names, an IPv4 one where it has both kinds. Raise SettingsError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        every = "; 0.0.0.0 is every interface" if host == "*" else ""
        raise SettingsError(f"HOST: {host} is no address, and no name that is known here{every}") from None
    first = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return str(first[4][0])


def claim(address: str, port: int) -> socket.socket:
    """Return a socket that keeps the port for this service and its workers while it is open. Raise SettingsError.

    The workers share their port by SO_REUSEPORT, and a second instance would join them in silence: so it is first
    taken without.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    claimed = None
    try:
        claimed = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # where it would take other programs' ports
            claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claimed.bind((address, port))
        claimed.listen(1)
    except OSError as error:
        if claimed:
            claimed.close()
        raise SettingsError(refusal(address, port, error)) from None
    if sys.platform != "linux" or not can_share(claimed):
        claimed.close()
    return claimed


def can_share(claimed: socket.socket) -> bool:
    """Let workers listen on a claimed port, and nobody else; return False where the system doesn't know how."""
    try:
        claimed.shutdown(socket.SHUT_RD)  # It stays bound, but takes no connections.
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with socket.socket(claimed.family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            trial.bind(claimed.getsockname())
    except OSError:
        return False
    return True


def refusal(address: str, port: int, error: OSError) -> str:
    """Return why nobody can listen there, in one line that names the setting."""
    match error.errno:
        case errno.EADDRINUSE:
            return f"PORT: {port} is taken at {address}, by another program or by this service"
        case errno.EADDRNOTAVAIL:
            return f"HOST: {address} is no address of this machine"
    return f"HOST and PORT: nobody can listen at {address}, port {port}: {error.strerror or error}"
