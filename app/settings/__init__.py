"""The settings of the service, read once from the environment and from `.env`, and checked."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta, Struct

from app.settings.addresses import (
    as_browsers_write,
    check_account_url,
    check_breached_passwords_url,
    check_collector,
    check_networks,
    check_origins,
    check_passkey_domain,
    check_public_url,
    check_rate_limit_storage,
    is_unspecified,
    mailbox,
    smtp_server,
)
from app.settings.appearance import check_colour, check_templates
from app.settings.databases import check_database_url, check_parameters, check_replicas
from app.settings.environment import variables
from app.settings.error import SettingsError

DEFAULT_TITLE = "Backend API"
DEFAULT_MAIL_FROM = "Backend API <no-reply@localhost>"
DEFAULT_DATABASE_URL = "sqlite:///backend.sqlite3"
# RFC 7518, section 3.2: a key is at least as long as the hash that it feeds.
# With the other algorithms, it signs the tokens that aren't access tokens by HS256.
KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64, "ES256": 32, "RS256": 32, "EdDSA": 32}
EXAMPLE_WORDS = ("change", "example", "secret", "password", "your-")
MIN_DISTINCT_CHARACTERS = 10
# One for a request and one for a job.
MIN_CONNECTIONS = 2
LISTS = ("CORS_ORIGINS", "DATABASE_REPLICA_URLS", "TRUSTED_PROXIES")
Port = Annotated[int, Meta(ge=1, le=65535)]
Days = Annotated[int, Meta(ge=1, le=36_600)]


class Settings(Struct, frozen=True, kw_only=True, rename="upper"):
    """The settings; each field is read from the variable of the same name in capitals."""

    secret_key: str
    database_url: str = DEFAULT_DATABASE_URL
    database_pool_size: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """The most connections of all workers together."""
    database_pooler: bool = False
    database_replica_urls: tuple[str, ...] = ()
    read_from_primary_seconds: Annotated[int, Meta(ge=4, le=3600)] = 5
    algorithm: Literal["HS256", "HS384", "HS512", "ES256", "RS256", "EdDSA"] = "HS256"
    """By which access tokens are signed: with SECRET_KEY, or with a key whose public part is published."""
    secret_key_previous: str = ""
    access_token_expire_minutes: Annotated[int, Meta(ge=1, le=366 * 24 * 60)] = 30
    refresh_token_idle_days: Days = 14
    refresh_token_absolute_days: Days = 90
    fresh_sign_in_minutes: Annotated[int, Meta(ge=1, le=24 * 60)] = 10
    """For which a sign-in is recent enough for what governs how somebody signs in."""
    password_grant: bool = True
    """Whether applications and scripts sign people in by their names and passwords."""
    registration: Literal["open", "closed"] = "open"
    registrations_per_hour: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Of one client network."""
    address_undo_days: Annotated[int, Meta(ge=0, le=90)] = 7
    """For which a confirmed mailbox may undo a change of its account's address; 0 for never."""
    second_factor: Literal["none", "superusers", "all"] = "none"
    """Who needs a second factor: nobody, superusers for their rights, or everybody for nearly everything."""
    passkey_domain: str = ""
    """The domain for which passkeys are made: the host of PUBLIC_URL, or a parent of it."""
    events_keep_days: Days = 365
    """For which security events are kept as rows."""
    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    keep_alive_seconds: Annotated[int, Meta(ge=1, le=3600)] = 10
    """The time that a connection may be idle, and that headers may take to arrive: the server has one for both."""
    max_connections: Annotated[int, Meta(ge=256, le=1_000_000)] = 8192
    """The most connections of clients at once, of all workers together."""
    drain_seconds: Annotated[int, Meta(ge=0, le=3600)] = 0
    drain_file: str = ""
    """The path of a file that exists once this instance is about to stop; `python -m app` sets it for its workers."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    cors_origins: tuple[str, ...] = ()
    public_url: str = ""
    account_pages: bool = True
    account_url: str = ""
    """Of a frontend that has the pages which mails lead to, instead of the service's own."""
    templates_dir: str = ""
    """The folder of templates that replace the pages' own of the same name."""
    pages_title: str = DEFAULT_TITLE
    pages_colour: str = "#1d4ed8"
    pages_colour_dark: str = "#9ab8ff"
    """In the dark scheme."""
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
        for key in filter(None, (self.secret_key, self.secret_key_previous)):
            check_length(key, self.algorithm)
        check_origins(self.cors_origins)
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
        check_passkey_domain(self.passkey_domain, self.url)
        check_account_url(self.account_url)
        check_templates(self.templates_dir)
        check_colour("PAGES_COLOUR", self.pages_colour)
        check_colour("PAGES_COLOUR_DARK", self.pages_colour_dark)
        check_breached_passwords_url(self.breached_passwords_url)
        if self.otel_exporter_otlp_endpoint:
            check_collector(self.otel_exporter_otlp_endpoint)
        if self.production and self.production_refusals:
            raise SettingsError(self.production_refusals[0])

    @property
    def production(self) -> bool:
        """True where the strict rules of a public service apply."""
        return self.environment == "production"

    @property
    def production_refusals(self) -> Sequence[str]:
        """The lines about settings that are too unsafe for production, in any environment."""
        lines = {
            "SECRET_KEY looks like an example; production needs a random one": is_example(self.secret_key),
            "CORS_ORIGINS must name its origins in production, not *": "*" in self.cors_origins,
            f"PUBLIC_URL is not set, and links in mails can't lead to {self.url}": not self.public_url
            and is_unspecified(self.host),
        }
        return [line for line, applies in lines.items() if applies]

    @property
    def production_doubts(self) -> Sequence[str]:
        """The lines about settings that work in production, but are hardly meant so."""
        lines = {
            f"PUBLIC_URL is not set: tokens and links in mails name {self.url}": not self.public_url,
            f"SMTP_URL is not set: mails aren't sent, but kept as files in {self.mail_dir}": not self.smtp_url,
            f"MAIL_FROM is not set: mails come from {DEFAULT_MAIL_FROM}": self.smtp_url
            and self.mail_from == DEFAULT_MAIL_FROM,
        }
        return [line for line, applies in lines.items() if applies]

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


def database_url() -> str:
    """Return DATABASE_URL alone, for migrations, which need no secret. Raise SettingsError."""
    url = variables().get("DATABASE_URL") or DEFAULT_DATABASE_URL
    check_database_url(url)
    return url


def check_length(secret: str, algorithm: str) -> None:
    """Raise SettingsError for a key that is too short for its algorithm."""
    if len(secret.encode()) < (needed := KEY_BYTES[algorithm]):
        raise SettingsError(f"SECRET_KEY must have at least {needed} bytes for {algorithm}")


def is_example(secret: str) -> bool:
    """Return whether a key is hardly random."""
    return any(word in secret.lower() for word in EXAMPLE_WORDS) or len(set(secret)) < MIN_DISTINCT_CHARACTERS
