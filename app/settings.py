"""The settings, read once from the environment and from `.env`."""

import os
import secrets
from collections.abc import Mapping
from email.headerregistry import Address
from email.utils import getaddresses
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta, Struct
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

ENV_FILE = Path(".env")
DEFAULT_DATABASE_URL = "sqlite:///backend.sqlite3"
# RFC 7518, section 3.2: a key is at least as long as the hash that it feeds.
KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
EXAMPLE_WORDS = ("change", "example", "secret", "password", "your-")
FEWEST_CHARACTERS = 10
# One for a request and one for a job.
FEWEST_CONNECTIONS = 2
LISTS = ("CORS_ORIGINS", "DATABASE_REPLICA_URLS", "TRUSTED_PROXIES")

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]


class SettingsError(ValueError):
    """A setting is missing or wrong; the message is one line for the operator."""


class Settings(Struct, frozen=True, kw_only=True, rename="upper"):
    """What an operator can set; each field is read from the variable of the same name in capitals."""

    secret_key: str
    database_url: str = DEFAULT_DATABASE_URL
    database_pool_size: Positive = 20
    """Connections of all workers together."""
    database_pooler: bool = False
    database_replica_urls: tuple[str, ...] = ()
    read_from_primary_seconds: Annotated[int, Meta(ge=4, le=3600)] = 5
    algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    secret_key_previous: str = ""
    access_token_expire_minutes: Positive = 30
    refresh_token_idle_days: Positive = 14
    refresh_token_absolute_days: Positive = 90
    registration: Literal["open", "closed"] = "open"
    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    drain_seconds: Annotated[int, Meta(ge=0, le=3600)] = 0
    drain_file: str = ""
    """A file that is there once this instance is about to stop; `python -m app` names it for its workers."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    cors_origins: tuple[str, ...] = ()
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    rate_limit_storage: str = ""
    password_min_length: Annotated[int, Meta(ge=1, le=256)] | None = None
    smtp_url: str = ""
    mail_from: str = "Backend API <no-reply@localhost>"
    mail_dir: str = "outbox"
    jobs_in_process: bool = True
    metrics: bool = False
    prometheus_multiproc_dir: str = ""
    """Where several workers put what they count for METRICS; `python -m app` makes it."""
    otel_exporter_otlp_endpoint: str = ""
    """The base URL of a collector that takes OTLP over HTTP; the name is OpenTelemetry's own."""
    otel_service_name: str = "backend-api"

    def __post_init__(self) -> None:
        check_secret(self.secret_key, self.algorithm, production=self.production)
        if self.secret_key_previous:
            check_secret(self.secret_key_previous, self.algorithm, production=False)
        check_origins(self.cors_origins, production=self.production)
        check_database_url(self.database_url)
        if self.on_postgresql and self.worker_pool_size < FEWEST_CONNECTIONS:
            raise SettingsError(f"DATABASE_POOL_SIZE must be at least {FEWEST_CONNECTIONS} for each of the WORKERS")
        check_replicas(self.database_url, self.database_replica_urls)
        check_networks(self.trusted_proxies)
        check_rate_limit_storage(self.rate_limit_storage)
        mailbox(self.mail_from)
        if self.smtp_url:
            smtp_server(self.smtp_url)
        check_public_url(self.public_url)
        if self.otel_exporter_otlp_endpoint:
            check_collector(self.otel_exporter_otlp_endpoint)

    @property
    def production(self) -> bool:
        """Whether the strict rules of a public service apply."""
        return self.environment == "production"

    @property
    def on_postgresql(self) -> bool:
        """Whether the database is a server, which has a limit of connections."""
        return self.database_url.startswith("postgres")

    @property
    def worker_pool_size(self) -> int:
        """How many connections each worker may open, so that all of them together stay within DATABASE_POOL_SIZE."""
        return self.database_pool_size // self.workers

    @property
    def least_password_length(self) -> int:
        """How many characters a password must have: as set, else 12 in production and 1 in development."""
        return self.password_min_length or (12 if self.production else 1)

    @property
    def url(self) -> str:
        """Where clients reach the service, without a slash at the end: the issuer of its tokens."""
        host = f"[{self.host}]" if ":" in self.host else self.host  # an IPv6 address (RFC 3986, section 3.2.2)
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment, then `.env` for what it doesn't name.

        Raises SettingsError when a setting is missing or wrong.
        """
        values = {name: value for name, value in variables(environ).items() if value}
        if "SECRET_KEY" not in values:
            raise SettingsError(
                "SECRET_KEY is not set; `just run` writes one into .env, or set a random one of 32 bytes"
            )
        known = {field.encode_name for field in msgspec.structs.fields(cls)}
        raw: dict[str, object] = {name: values[name] for name in known & values.keys()}
        for name in raw.keys() & set(LISTS):
            raw[name] = tuple(part.strip() for part in values[name].split(",") if part.strip())
        try:
            return msgspec.convert(raw, cls, strict=False)
        except msgspec.ValidationError as error:
            if isinstance(error.__cause__, SettingsError):
                raise error.__cause__ from None
            message, _, where = str(error).partition(" - at `$.")
            raise SettingsError(f"{where.rstrip('`')}: {message}") from None


def variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of `.env`, overridden by those of the environment."""
    from_file = {name: value for name, value in dotenv_values(ENV_FILE).items() if value is not None}
    return from_file | dict(os.environ if environ is None else environ)


def database_url() -> str:
    """DATABASE_URL alone, for migrations, which need no secret. Raises SettingsError."""
    url = variables().get("DATABASE_URL") or DEFAULT_DATABASE_URL
    check_database_url(url)
    return url


def write_first_secret() -> bool:
    """Give a first run its own random SECRET_KEY in `.env`; False when there is one already."""
    known = variables()
    if known.get("SECRET_KEY") or known.get("ENVIRONMENT") == "production":
        return False
    with open(ENV_FILE, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        # The last line of a file that is there already may not end.
        file.write(("\n" if file.tell() else "") + f"SECRET_KEY={secrets.token_urlsafe(48)}\n")
    return True


def check_secret(secret: str, algorithm: str, *, production: bool) -> None:
    """Refuse a key that is too short for its algorithm, and in production one that looks like an example."""
    if len(secret.encode()) < (needed := KEY_BYTES[algorithm]):
        raise SettingsError(f"SECRET_KEY must have at least {needed} bytes for {algorithm}")
    example = any(word in secret.lower() for word in EXAMPLE_WORDS) or len(set(secret)) < FEWEST_CHARACTERS
    if production and example:
        raise SettingsError("SECRET_KEY looks like an example; production needs a random one")


def check_origins(origins: tuple[str, ...], *, production: bool) -> None:
    """Refuse what is no origin, and in production the wildcard."""
    if production and "*" in origins:
        raise SettingsError("CORS_ORIGINS must name its origins in production, not *")
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in {"http", "https"}):
            raise SettingsError(f"CORS_ORIGINS: {origin} is not an origin such as https://app.example.org")


def check_public_url(url: str) -> None:
    """Refuse what names no host of the web, or more than a host and a path; empty, HOST and PORT tell."""
    try:
        parts = urlsplit(url)
        site = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        whole = site and not parts.query and not parts.fragment
    except ValueError:
        whole = False
    if url and not whole:
        raise SettingsError("PUBLIC_URL must be http:// or https:// with a host, such as https://api.example.org/v1")


def check_networks(networks: tuple[str, ...]) -> None:
    """Refuse what is neither an address nor a network of them."""
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise SettingsError(f"TRUSTED_PROXIES: {network} is no address or network such as 10.0.0.0/8") from None


def check_rate_limit_storage(url: str) -> None:
    """Refuse what is no Redis or Valkey; empty, each process counts for itself."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"redis", "rediss", "valkey", "valkeys"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if url and not known:
        raise SettingsError(
            "RATE_LIMIT_STORAGE must be redis://host:6379/0 or valkey://..., with TLS rediss:// or valkeys://"
        )


def check_collector(url: str) -> None:
    """Refuse traces without a collector's address, or without the packages that send them."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise SettingsError("OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://collector:4318")
    if not is_installed("opentelemetry.exporter.otlp.proto.http"):
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of requirements-otel.lock; install them, or unset it"
        )


def is_installed(package: str) -> bool:
    """Whether there is such a package, or one within a package."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def check_database_url(url: str) -> None:
    """Refuse a database that is neither PostgreSQL nor an SQLite file."""
    scheme, _, rest = url.partition("://")
    sqlite = (
        scheme in {"sqlite", "sqlite+aiosqlite"} and rest.startswith("/") and rest.strip("/") not in {"", ":memory:"}
    )
    if not (is_postgresql(url) or sqlite):
        raise SettingsError("DATABASE_URL must be postgresql://user:password@host/name or sqlite:///file")


def check_replicas(primary: str, urls: tuple[str, ...]) -> None:
    """Refuse replicas of anything but PostgreSQL; the message doesn't repeat a URL, which may hold a password."""
    if urls and not all(is_postgresql(url) for url in (primary, *urls)):
        raise SettingsError("DATABASE_REPLICA_URLS must be postgresql://user:password@host/name, as DATABASE_URL then")


def is_postgresql(url: str) -> bool:
    """Whether it is the address of a PostgreSQL database."""
    return url.partition("://")[0] in {"postgres", "postgresql", "postgresql+asyncpg"} and is_url(url)


def is_url(text: str) -> bool:
    """Whether SQLAlchemy can read it as the address of a database."""
    try:
        make_url(text)
    except (ArgumentError, ValueError):
        return False
    return True


class SmtpServer(Struct, frozen=True):
    """Where mail goes out; `tls` is from the start, `start_tls` later: True requires it, None takes what is offered."""

    host: str
    port: int
    username: str
    password: str
    tls: bool
    start_tls: bool | None


def smtp_server(url: str) -> SmtpServer:
    """The server of SMTP_URL. Raises SettingsError, which doesn't repeat the URL: there may be a password in it.

    STARTTLS is required unless the server is on this machine, so that nobody between can keep things in the clear.
    """
    try:
        parts = urlsplit(url)
        host, username, password = (unquote(part or "") for part in (parts.hostname, parts.username, parts.password))
        tls = parts.scheme == "smtps"
        start_tls = False if tls else None if is_loopback(host) else True
        if parts.query:
            start_tls = {"starttls=required": True, "starttls=auto": None, "starttls=never": False}[parts.query]
        whole = parts.scheme in {"smtp", "smtps"} and host and parts.path in {"", "/"} and not parts.fragment
        if whole and bool(username) == bool(password) and not (tls and parts.query):
            return SmtpServer(host, parts.port or (465 if tls else 587), username, password, tls, start_tls)
    except (ValueError, KeyError):
        pass
    raise SettingsError(
        "SMTP_URL must be smtp://user:password@host:587, or smtps:// for TLS from the start, with special characters "
        "percent-encoded; smtp:// may end in ?starttls=required, auto or never"
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def mailbox(text: str) -> Address:
    """One address, with or without a name: `Name <user@host>` (RFC 5322). Raises SettingsError."""
    addresses = getaddresses([text])
    if len(addresses) == 1 and text.isprintable():
        name, address = addresses[0]
        username, _, domain = address.rpartition("@")
        if username and domain and " " not in address:
            return Address(name, username, domain)
    raise SettingsError("MAIL_FROM must be an address such as Backend API <no-reply@example.org>")
