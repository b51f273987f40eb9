"""The addresses among the settings: origins, networks, URLs of other services, mailboxes."""

import re
from contextlib import suppress
from email.headerregistry import Address
from email.utils import getaddresses
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from email_validator import EmailNotValidError, validate_email
from msgspec import Struct

from app.settings.error import SettingsError

ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def check_origins(origins: tuple[str, ...]) -> None:
    """Raise SettingsError for anything but origins, and the wildcard."""
    for origin in origins:
        # The framework would take a * within an origin for anything.
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise SettingsError(f"CORS_ORIGINS: {origin} is not an origin such as https://app.example.org")


def as_browsers_write(origin: str) -> str:
    """Return an origin as browsers send it (RFC 6454): in small letters, in IDNA, and without the usual port.

    What is no origin comes back as it is.
    """
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
        host = ascii_host(host) if host else None
    except (ValueError, EmailNotValidError):
        return origin
    if not host or "@" in parts.netloc or origin.lower() != f"{parts.scheme}://{parts.netloc.lower()}":
        return origin
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" if port in {None, usual} else f"{parts.scheme}://{host}:{port}"


def check_public_url(url: str) -> None:
    """Raise SettingsError unless the URL is empty, or http or https with a host and at most a path."""
    if url and not is_site(url):
        raise SettingsError("PUBLIC_URL must be http:// or https:// with a host, such as https://api.example.org/v1")


def check_passkey_domain(domain: str, url: str) -> None:
    """Raise SettingsError unless the domain is empty, or the host of a URL or a parent of it.

    Of the latter it has at least two labels, since no browser takes a key for a top-level domain.
    """
    host = host_of(url)
    if domain and domain != host and not (host.endswith(f".{domain}") and "." in domain and not is_address(host)):
        raise SettingsError(f"PASSKEY_DOMAIN must be the host of PUBLIC_URL, {host}, or a parent of it")


def host_of(url: str) -> str:
    """Return the host of an origin or another URL, as browsers write it."""
    parts = urlsplit(url)
    return urlsplit(as_browsers_write(f"{parts.scheme}://{parts.netloc}")).hostname or ""


def check_account_url(url: str) -> None:
    """Raise SettingsError unless the URL is empty, or http or https with a host and at most a path."""
    if url and not is_site(url):
        raise SettingsError("ACCOUNT_URL must be http:// or https:// with a host, such as https://app.example.org/me")


def is_site(url: str) -> bool:
    """Return whether a URL is http or https, with a host and at most a path."""
    try:
        parts = urlsplit(url)
        site = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        return bool(site and not parts.query and not parts.fragment)
    except ValueError:
        return False


def check_breached_passwords_url(url: str) -> None:
    """Raise SettingsError unless the URL is empty, https, or http on this machine, with a host and at most a path."""
    try:
        parts = urlsplit(url)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        is_valid = is_safe and parts.hostname and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        is_valid = False
    if url and not is_valid:
        raise SettingsError("BREACHED_PASSWORDS_URL must be https:// with a host, or http:// on this machine")


def check_networks(networks: tuple[str, ...]) -> None:
    """Raise SettingsError for anything but IP addresses and networks."""
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise SettingsError(f"TRUSTED_PROXIES: {network} is no address or network such as 10.0.0.0/8") from None


def check_rate_limit_storage(url: str) -> None:
    """Raise SettingsError unless the URL is empty, or that of a Redis or Valkey."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"redis", "rediss", "valkey", "valkeys"} and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if url and not is_valid:
        raise SettingsError(
            "RATE_LIMIT_STORAGE must be redis://host:6379/0 or valkey://..., with TLS rediss:// or valkeys://"
        )


def check_collector(url: str) -> None:
    """Raise SettingsError unless the URL is a collector's, and the packages that send traces are installed."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise SettingsError("OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://collector:4318")
    if not is_installed("opentelemetry.exporter.otlp.proto.http"):
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of requirements-otel.lock; install them, or unset it"
        )


def is_installed(package: str) -> bool:
    """Return whether a package, given by its dotted name, can be imported."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


class SmtpServer(Struct, frozen=True):
    """The server that sends mail.

    With `tls`, connections are encrypted from the start. With `start_tls`, they are upgraded: True requires it, None
    does so where the server offers it, and False never does.
    """

    host: str
    port: int
    username: str
    password: str
    tls: bool
    start_tls: bool | None


def smtp_server(url: str) -> SmtpServer:
    """Return the server of SMTP_URL. Raise SettingsError, whose text doesn't have the URL, which may hold a password.

    STARTTLS is required by default unless the server is on this machine: without that, an attacker on the network
    could remove the server's offer, and read the mail.
    """
    try:
        parts = urlsplit(url)
        host, username, password = (unquote(part or "") for part in (parts.hostname, parts.username, parts.password))
        tls = parts.scheme == "smtps"
        start_tls = False if tls else None if is_loopback(host) else True
        if parts.query:
            start_tls = {"starttls=required": True, "starttls=auto": None, "starttls=never": False}[parts.query]
        is_valid = parts.scheme in {"smtp", "smtps"} and host and parts.path in {"", "/"} and not parts.fragment
        if is_valid and bool(username) == bool(password) and not (tls and parts.query):
            return SmtpServer(host, parts.port or (465 if tls else 587), username, password, tls, start_tls)
    except (ValueError, KeyError):
        pass
    raise SettingsError(
        "SMTP_URL must be smtp://user:password@host:587, or smtps:// for TLS from the start, with special characters "
        "percent-encoded; smtp:// may end in ?starttls=required, auto or never"
    )


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def ascii_host(host: str) -> str:
    """Return a host's name in ASCII (IDNA 2008), as servers and browsers send it. Raise EmailNotValidError."""
    if host.isascii():
        return host
    # Of which names are hosts, the library of addresses knows the most.
    return str(validate_email(f"x@{host}", check_deliverability=False, globally_deliverable=False).ascii_domain)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_unspecified(host: str) -> bool:
    """Return whether a host stands for every interface of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def mailbox(text: str) -> Address:
    """Return one mailbox, its host in ASCII: `user@host` or `Name <user@host>` (RFC 5322). Raise SettingsError."""
    addresses = getaddresses([text])
    if len(addresses) == 1 and text.isprintable():
        name, address = addresses[0]
        username, _, domain = address.rpartition("@")
        # What stands elsewhere has been passed over.
        whole = text.strip() == address or text.rstrip().endswith(f"<{address}>")
        if username and domain and whole and " " not in address:
            with suppress(EmailNotValidError):
                return Address(name, username, ascii_host(domain))
    raise SettingsError("MAIL_FROM must be an address such as Backend API <no-reply@example.org>")
