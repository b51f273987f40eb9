"""The settings of the service, read once from the environment and from `.env`, and checked."""

import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.headerregistry import Address
from email.utils import getaddresses
from importlib.util import find_spec
from io import StringIO
from ipaddress import ip_address, ip_network
from pathlib import Path
from stat import S_IMODE, S_ISREG
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

import msgspec
from dotenv.parser import parse_stream
from dotenv.variables import Variable, parse_variables
from email_validator import EmailNotValidError, validate_email
from msgspec import Meta, Struct
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

ENV_FILE = Path(".env")
DEFAULT_MAIL_FROM = "Backend API <no-reply@localhost>"
DEFAULT_DATABASE_URL = "sqlite:///backend.sqlite3"
# RFC 7518, section 3.2: a key is at least as long as the hash that it feeds.
KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
EXAMPLE_WORDS = ("change", "example", "secret", "password", "your-")
MIN_DISTINCT_CHARACTERS = 10
# One for a request and one for a job.
MIN_CONNECTIONS = 2
ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
LAST_PORT = 65535
SEVERAL_HOSTS = re.compile(
    r"(?P<before>[^:/]+://(?:[^:/@]*(?::[^@]*)?@)?)(?P<hosts>[^/?@,]+(?:,[^/?@,]+)+)(?P<after>.*)", re.DOTALL
)
# What a database's URL may have after its question mark: of libpq's parameters those that asyncpg can do.
TLS_FILES = {"sslcert", "sslkey", "sslrootcert", "sslcrl"}
SYSTEM_CERTIFICATES = "system"
TLS_PARAMETERS = TLS_FILES | {
    *("sslmode", "sslnegotiation", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version"),
}
PARAMETERS = TLS_PARAMETERS | {
    *("host", "port", "user", "password", "dbname", "passfile", "target_session_attrs", "krbsrvname", "gsslib"),
    *("application_name", "fallback_application_name", "connect_timeout", "options"),
    "ssl",  # SQLAlchemy's name for sslmode
}
SQLITE_PARAMETERS = {"timeout", "cached_statements"}
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
CHOICES = {
    "ssl": SSL_MODES,
    "sslmode": SSL_MODES,
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "gsslib": ("gssapi", "sspi"),
}
# And those that say what asyncpg does anyway.
ALREADY_SO = {
    "channel_binding": {"prefer", "disable"},
    "client_encoding": {"utf8", "utf-8", "unicode", "auto"},
    "gssencmode": {"prefer", "disable"},
    "keepalives": {"1"},
    "load_balance_hosts": {"disable"},
    "sslcompression": {"0"},
    "sslsni": {"1"},
}
LISTS = ("CORS_ORIGINS", "DATABASE_REPLICA_URLS", "TRUSTED_PROXIES")

Port = Annotated[int, Meta(ge=1, le=65535)]
Days = Annotated[int, Meta(ge=1, le=36_600)]


def make_private(path: Path) -> None:
    """Take others' rights to a file away, where it is there and belongs to this process's user."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # It isn't there, or lies where nothing can be changed: whoever put it there knows why.
        status = path.stat()
        if S_ISREG(status.st_mode) and status.st_mode & 0o077 and status.st_uid == os.geteuid():
            path.chmod(S_IMODE(status.st_mode) & 0o700)


class SettingsError(ValueError):
    """A setting is missing or wrong; the message tells the operator which, in one line."""


class Settings(Struct, frozen=True, kw_only=True, rename="upper"):
    """The settings; each field is read from the variable of the same name in capitals."""

    secret_key: str
    database_url: str = DEFAULT_DATABASE_URL
    database_pool_size: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """The most connections of all workers together."""
    database_pooler: bool = False
    database_replica_urls: tuple[str, ...] = ()
    read_from_primary_seconds: Annotated[int, Meta(ge=4, le=3600)] = 5
    algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    secret_key_previous: str = ""
    access_token_expire_minutes: Annotated[int, Meta(ge=1, le=366 * 24 * 60)] = 30
    refresh_token_idle_days: Days = 14
    refresh_token_absolute_days: Days = 90
    registration: Literal["open", "closed"] = "open"
    registrations_per_hour: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Of one client network."""
    address_undo_days: Annotated[int, Meta(ge=0, le=90)] = 7
    """For which a confirmed mailbox may undo a change of its account's address; 0 for never."""
    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    keep_alive_seconds: Annotated[int, Meta(ge=1, le=3600)] = 10
    """The time that a connection may be idle, and that headers may take to arrive: the server has one for both."""
    drain_seconds: Annotated[int, Meta(ge=0, le=3600)] = 0
    drain_file: str = ""
    """The path of a file that exists once this instance is about to stop; `python -m app` sets it for its workers."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    cors_origins: tuple[str, ...] = ()
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    rate_limit_storage: str = ""
    password_min_length: Annotated[int, Meta(ge=1, le=256)] | None = None
    breached_passwords_url: str = ""
    """Of a service that tells breached passwords by a part of their hash; without one, nobody is asked."""
    smtp_url: str = ""
    mail_from: str = DEFAULT_MAIL_FROM
    mail_dir: str = "outbox"
    jobs_in_process: bool = True
    metrics: bool = False
    prometheus_multiproc_dir: str = ""
    """The directory through which several workers share their metrics; `python -m app` makes it."""
    otel_exporter_otlp_endpoint: str = ""
    """The base URL of a collector that takes OTLP over HTTP; the name is OpenTelemetry's own."""
    otel_service_name: str = "backend-api"

    def __post_init__(self) -> None:
        # An IPv6 address has brackets in a URL, where HOST was copied from.
        msgspec.structs.force_setattr(self, "host", self.host.removeprefix("[").removesuffix("]"))
        msgspec.structs.force_setattr(self, "cors_origins", tuple(map(as_browsers_write, self.cors_origins)))
        check_secret(self.secret_key, self.algorithm, production=self.production)
        if self.secret_key_previous:
            check_secret(self.secret_key_previous, self.algorithm, production=False)
        check_origins(self.cors_origins, production=self.production)
        check_database_url(self.database_url)
        if self.on_postgresql and self.worker_pool_size < MIN_CONNECTIONS:
            raise SettingsError(f"DATABASE_POOL_SIZE must be at least {MIN_CONNECTIONS} for each of the WORKERS")
        check_replicas(self.database_url, self.database_replica_urls)
        for url in self.database_replica_urls:
            check_parameters("DATABASE_REPLICA_URLS", url)
        check_networks(self.trusted_proxies)
        check_rate_limit_storage(self.rate_limit_storage)
        mailbox(self.mail_from)
        if self.smtp_url:
            smtp_server(self.smtp_url)
        check_public_url(self.public_url)
        check_breached_passwords_url(self.breached_passwords_url)
        if self.production and not self.public_url and is_unspecified(self.host):
            raise SettingsError(f"PUBLIC_URL is not set, and links in mails can't lead to {self.url}")
        if self.otel_exporter_otlp_endpoint:
            check_collector(self.otel_exporter_otlp_endpoint)

    @property
    def production(self) -> bool:
        """True where the strict rules of a public service apply."""
        return self.environment == "production"

    @property
    def doubts(self) -> Sequence[str]:
        """The lines about settings that work in production, but are hardly meant so."""
        lines = {
            f"PUBLIC_URL is not set: tokens and links in mails name {self.url}": not self.public_url,
            f"SMTP_URL is not set: mails aren't sent, but kept as files in {self.mail_dir}": not self.smtp_url,
            f"MAIL_FROM is not set: mails come from {DEFAULT_MAIL_FROM}": self.smtp_url
            and self.mail_from == DEFAULT_MAIL_FROM,
        }
        return [line for line, applies in lines.items() if applies and self.production]

    @property
    def on_postgresql(self) -> bool:
        """True where the database is PostgreSQL, a server that limits its connections."""
        return self.database_url.startswith("postgres")

    @property
    def worker_pool_size(self) -> int:
        """The most connections of each worker, so that all of them together stay within DATABASE_POOL_SIZE."""
        return self.database_pool_size // self.workers

    @property
    def effective_password_min_length(self) -> int:
        """The fewest characters of a password: PASSWORD_MIN_LENGTH, else 12 in production and 1 in development."""
        return self.password_min_length or (12 if self.production else 1)

    @property
    def url(self) -> str:
        """The URL at which clients reach the service, without a slash at the end; also the issuer of its tokens."""
        host = f"[{self.host}]" if ":" in self.host else self.host  # an IPv6 address (RFC 3986, section 3.2.2)
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return the settings of the environment, and of `.env` for those that the environment doesn't have.

        Raise SettingsError when a setting is missing or wrong.
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
    """Return the variables of `.env`, overridden by those of the environment. Raise SettingsError."""
    environ = os.environ if environ is None else environ
    return file_variables(environ) | dict(environ)


def file_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `.env`, which may name others as ${NAME}; in single quotes it stands for itself."""
    known, found = dict(environ), dict[str, str]()
    for line in parse_stream(StringIO(env_text())):
        if line.error:
            raise SettingsError(f"{ENV_FILE}, line {line.original.line}: a line is NAME=value, or a comment after #")
        if line.key is None or line.value is None:
            continue
        quoted = line.original.string.partition("=")[2].lstrip().startswith("'")
        found[line.key] = known[line.key] = line.value if quoted else expand(line.key, line.value, known)
    return found


def expand(setting: str, value: str, known: Mapping[str, str]) -> str:
    """Return a value with the variables that it names. Raise SettingsError for one that has no value and no default."""
    parts = list(parse_variables(value))
    for part in parts:
        if isinstance(part, Variable) and part.default is None and part.name not in known:
            raise SettingsError(
                f"{ENV_FILE}: {setting} names ${{{part.name}}}, which is not set; in single quotes it stands for itself"
            )
    return "".join(part.resolve(known) for part in parts)


def env_text() -> str:
    """Return the text of `.env`, empty where there is no such file. Raise SettingsError."""
    try:
        content = ENV_FILE.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError(f"{ENV_FILE} can't be read: {reason(error)}") from None
    try:
        text = content.decode("utf-8-sig")
        end = text.find("\0")
    except UnicodeDecodeError as error:
        text, end = "", error.start
    if end >= 0:
        line = content[:end].count(b"\n") + 1
        raise SettingsError(f"{ENV_FILE} must be text in UTF-8, and is something else in line {line}")
    return text


def database_url() -> str:
    """Return DATABASE_URL alone, for migrations, which need no secret. Raise SettingsError."""
    url = variables().get("DATABASE_URL") or DEFAULT_DATABASE_URL
    check_database_url(url)
    return url


def write_first_secret() -> bool:
    """Write a random SECRET_KEY into `.env`, and return True; return False where there is one, and in production."""
    known = variables()
    if known.get("SECRET_KEY") or known.get("ENVIRONMENT") == "production":
        return False
    try:
        with open(ENV_FILE, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            make_private(ENV_FILE)
            # The last line of an existing file may lack its end.
            file.write(("\n" if file.tell() else "") + f"SECRET_KEY={secrets.token_urlsafe(48)}\n")
    except OSError as error:
        raise SettingsError(f"SECRET_KEY is not set, and {ENV_FILE} can't be written: {reason(error)}") from None
    return True


def check_secret(secret: str, algorithm: str, *, production: bool) -> None:
    """Raise SettingsError for a key that is too short for its algorithm, and in production for an example."""
    if len(secret.encode()) < (needed := KEY_BYTES[algorithm]):
        raise SettingsError(f"SECRET_KEY must have at least {needed} bytes for {algorithm}")
    example = any(word in secret.lower() for word in EXAMPLE_WORDS) or len(set(secret)) < MIN_DISTINCT_CHARACTERS
    if production and example:
        raise SettingsError("SECRET_KEY looks like an example; production needs a random one")


def check_origins(origins: tuple[str, ...], *, production: bool) -> None:
    """Raise SettingsError for anything but origins, and in production for the wildcard."""
    if production and "*" in origins:
        raise SettingsError("CORS_ORIGINS must name its origins in production, not *")
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
    try:
        parts = urlsplit(url)
        site = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        is_valid = site and not parts.query and not parts.fragment
    except ValueError:
        is_valid = False
    if url and not is_valid:
        raise SettingsError("PUBLIC_URL must be http:// or https:// with a host, such as https://api.example.org/v1")


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


def check_database_url(url: str) -> None:
    """Raise SettingsError unless the URL is that of a PostgreSQL database or an SQLite file."""
    scheme, _, rest = url.partition("://")
    sqlite = (
        scheme in {"sqlite", "sqlite+aiosqlite"} and rest.startswith("/") and rest.strip("/") not in {"", ":memory:"}
    )
    if not (is_postgresql(url) or sqlite):
        raise SettingsError("DATABASE_URL must be postgresql://user:password@host/name or sqlite:///file")
    check_parameters("DATABASE_URL", url)


def check_replicas(primary: str, urls: tuple[str, ...]) -> None:
    """Raise SettingsError unless primary and replicas are PostgreSQL; its text has no URL, with its password."""
    if urls and not all(is_postgresql(url) for url in (primary, *urls)):
        raise SettingsError("DATABASE_REPLICA_URLS must be postgresql://user:password@host/name, as DATABASE_URL then")


def is_postgresql(url: str) -> bool:
    """Return whether a text is the URL of a PostgreSQL database."""
    return url.partition("://")[0] in {"postgres", "postgresql", "postgresql+asyncpg"} and is_url(url)


def is_url(text: str) -> bool:
    """Return whether a text can be read as the URL of a database."""
    try:
        read_database_url(text)
    except (ArgumentError, ValueError):
        return False
    return True


def read_database_url(text: str) -> URL:
    """Return the address of a database; libpq's several hosts and folders of sockets are where SQLAlchemy has them.

    Raise ArgumentError and ValueError.
    """
    hosts: Sequence[str] = ()
    if several := SEVERAL_HOSTS.match(text):
        hosts = [host if ":" in host else f"{host}:5432" for host in several["hosts"].split(",")]
        text = several["before"] + several["after"]
    url = make_url(text)
    if url.host and url.host.lower().startswith("%2f"):
        hosts = [unquote(url.host)]
        url = url.set(host="")
    if not 0 < (url.port or 1) <= LAST_PORT:
        raise ValueError("There is no such port")
    return url.update_query_dict({"host": hosts}) if hosts else url


def check_parameters(setting: str, text: str) -> None:
    """Refuse parameters of a database's URL that its driver can't do; the message repeats no value, but of those."""
    url = read_database_url(text)
    known = PARAMETERS if is_postgresql(text) else SQLITE_PARAMETERS
    for name, value in url.query.items():
        if name in ALREADY_SO and isinstance(value, str) and known is PARAMETERS:
            if value.lower() not in ALREADY_SO[name]:
                raise SettingsError(f"{setting}: the driver of the database can't do {name}={value}")
        elif name not in known:
            raise SettingsError(f"{setting}: the driver of the database has no parameter {name}")
        elif not isinstance(value, str) and name != "host":
            raise SettingsError(f"{setting}: {name} is there twice")
        else:
            check_parameter(setting, name, str(value))


def check_parameter(setting: str, name: str, value: str) -> None:
    """Refuse a value that a parameter of PostgreSQL's can't have."""
    if name in CHOICES and value not in CHOICES[name]:
        raise SettingsError(f"{setting}: {name} must be one of {', '.join(CHOICES[name])}")
    if name in {"connect_timeout", "port"} and not (value.isascii() and value.isdigit() and int(value) <= LAST_PORT):
        raise SettingsError(f"{setting}: {name} must be a number")
    if name in TLS_FILES and value != SYSTEM_CERTIFICATES:
        try:
            Path(value).read_bytes()
        except (OSError, ValueError) as error:
            raise SettingsError(f"{setting}: the file of {name} can't be read: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Return what the system says went wrong, without the name of the file."""
    return getattr(error, "strerror", None) or str(error)


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
