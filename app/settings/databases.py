"""The URLs of databases: what they may have, libpq's parameters among it."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.settings.error import SettingsError, reason

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
