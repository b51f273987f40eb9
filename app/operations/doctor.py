"""The examination of an installation by `just doctor`: versions, settings, and the answers of what they name."""

import asyncio
import os
import platform
from collections.abc import Awaitable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
from aiosmtplib import SMTPException
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from msgspec import Struct
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app import __version__
from app.database.engine import driver_url
from app.database.failures import error_summary, is_missing_table
from app.database.sessions import Database
from app.database.status import is_standby, revision, server_version
from app.http.openapi.document import TITLE
from app.jobs.mail import SmtpMailer
from app.operations.migrations import MIGRATIONS
from app.security.limits import Limits
from app.settings import Settings
from app.settings.addresses import smtp_server
from app.settings.databases import read_database_url
from app.settings.environment import sources

ANSWER_WITHIN_SECONDS = 3
PACKAGES = ("litestar", "advanced-alchemy", "sqlalchemy", "asyncpg", "aiosqlite", "msgspec", "granian", "uvloop")
SECRETS = ("SECRET", "KEY", "PASSWORD", "TOKEN")
"""Words in the names of the texts that aren't shown."""

UNMIGRATED = "isn't migrated; `just migrate` does it"


class Unwell(Exception):
    """A part of the surroundings can't be used; the message tells the operator why, in one line."""


class Finding(Struct, frozen=True):
    """The state of one part of the surroundings, and a line about it."""

    part: str
    line: str
    well: bool


def examine() -> int:
    """Print the examination, and return the exit status: 0 when everything answers. Raise SettingsError."""
    click.echo("\n".join(versions()))
    settings = Settings.load()
    click.echo("\n".join(["", "Settings, where they aren't the defaults", *setting_lines(settings, sources())]))
    click.echo("\nSurroundings")
    findings = asyncio.run(ask_everything(settings))
    for finding in findings:
        click.echo(f"  {'ok' if finding.well else 'WRONG':6}{finding.part:12}{finding.line}")
    click.echo("\n".join(["", "Production", *(f"  {line}" for line in production_lines(settings))]))
    return int(not all(finding.well for finding in findings))


def versions() -> Iterator[str]:
    """Yield lines on the service, the interpreter, the system and the main packages."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield f"{TITLE} {__version__} on {python}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield f"  {', '.join(f'{name} {version(name)}' for name in PACKAGES if is_here(name))}"


def is_here(package: str) -> bool:
    """Return whether a package is installed; not each is on every system."""
    try:
        version(package)
    except ModuleNotFoundError:
        return False
    return True


# Settings -------------------------------------------------------------------------------------------------------------


def setting_lines(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each setting that differs from its default: its name, its value, and where that is from."""
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            line = f"  {field.encode_name:30}{shown(field.encode_name, value)}"
            yield line + (f"  ({origins[field.encode_name]})" if field.encode_name in origins else "")


def shown(name: str, value: object) -> str:
    """Return a setting's value for a person, who may show it to others: without any secret."""
    if isinstance(value, tuple):
        return ", ".join(shown(name, part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and any(word in name for word in SECRETS):
        return "set"
    text = str(value)
    return without_secrets(text) if "://" in text else text


def without_secrets(url: str) -> str:
    """Return the public parts of a URL: all of it where it has neither a user nor parameters."""
    if not {"@", "?", "#"} & set(url):
        return url
    if url.startswith(("postgres", "sqlite")):
        parsed = read_database_url(url)
        hosts = {name: value for name, value in parsed.query.items() if name == "host"}
        return parsed.set(query=hosts).render_as_string(hide_password=True)
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def production_lines(settings: Settings) -> Iterator[str]:
    """Yield lines on what production refuses and doubts about these settings."""
    yield from (f"refuses: {line}" for line in settings.production_refusals)
    yield from (f"doubts: {line}" for line in settings.production_doubts)
    if not settings.production_refusals and not settings.production_doubts:
        yield "has nothing against these settings"


# Surroundings ---------------------------------------------------------------------------------------------------------


async def ask_everything(settings: Settings) -> list[Finding]:
    """Ask every part of the surroundings at the same time."""
    questions = {"database": ask_database(settings), "mail": ask_mail(settings), "limits": ask_limits(settings)}
    standbys = {f"standby {number}": ask_standby(url) for number, url in enumerate(settings.database_replica_urls, 1)}
    return await asyncio.gather(*(ask(part, question) for part, question in (questions | standbys).items()))


async def ask(part: str, question: Awaitable[str]) -> Finding:
    """Return the answer of one part, or the reason why there is none within ANSWER_WITHIN_SECONDS."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            return Finding(part, await question, well=True)
    except Unwell as error:
        line = str(error)
    except TimeoutError:
        line = f"doesn't answer within {ANSWER_WITHIN_SECONDS} s"
    except (SQLAlchemyError, OSError, SMTPException, RedisError) as error:
        line = f"can't be used: {error_summary(error)}"
    return Finding(part, line, well=False)


async def ask_database(settings: Settings) -> str:
    """Return the database's version and revision. Raise Unwell unless it is at the revision of this code."""
    file = driver_url(settings.database_url).database or ""
    if not settings.on_postgresql and not is_file(file):
        raise Unwell(f"{file} isn't there yet; `just migrate` makes it")
    database = Database(settings.database_url, pool_size=1, pooler=settings.database_pooler)
    try:
        kind = await server_version(database)
        return f"{kind}, {check_revision(await revision(database))}"
    except DBAPIError as error:
        if not is_missing_table(error):
            raise
        raise Unwell(UNMIGRATED) from None
    finally:
        await database.close()


def check_revision(current: str | None) -> str:
    """Return a text about the newest revision. Raise Unwell when the database is at another one."""
    if current is None:
        raise Unwell(UNMIGRATED)
    script = ScriptDirectory(str(MIGRATIONS))
    if current == script.get_current_head():
        return f"at revision {current}, the newest"
    try:
        script.get_revision(current)
    except CommandError:
        raise Unwell(f"is at revision {current}, which is of newer code, or of another program") from None
    raise Unwell(f"is at revision {current}, and this code needs {script.get_current_head()}; `just migrate` does it")


async def ask_standby(url: str) -> str:
    """Return a hot standby's version. Raise Unwell for a server that is none."""
    database = Database(url, pool_size=1)
    try:
        kind = await server_version(database)
        if not await is_standby(database):
            raise Unwell(f"{kind} answers, but is no standby")
        return kind
    finally:
        await database.close()


async def ask_mail(settings: Settings) -> str:
    """Sign in to the mail server and send nothing; where there is none, look at the folder. Raise Unwell."""
    if settings.smtp_url:
        server = smtp_server(settings.smtp_url)
        await SmtpMailer(server).check()
        return f"{server.host}:{server.port} takes mails"
    if not is_writable(settings.mail_dir):
        raise Unwell(f"MAIL_DIR, {settings.mail_dir}, can't be written")
    return f"files in {settings.mail_dir}"


def is_file(path: str) -> bool:
    """Return whether a file is there."""
    return Path(path).is_file()


def is_writable(path: str) -> bool:
    """Return whether this process may write to a folder, or make it where it isn't there."""
    folder = Path(path).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return there.is_dir() and os.access(there, os.W_OK)


async def ask_limits(settings: Settings) -> str:
    """Ask the storage that counts for several processes, where there is one."""
    if not settings.rate_limit_storage:
        return "counted in each process"
    limits = Limits(settings.rate_limit_storage)
    try:
        await limits.ping()
    finally:
        await limits.close()
    return "the storage answers"
