"""The variables of the environment and of `.env`, from which the settings are read."""

import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from stat import S_IMODE, S_ISREG

from dotenv.parser import parse_stream
from dotenv.variables import Variable, parse_variables

from app.settings.error import SettingsError, reason

ENV_FILE = Path(".env")


def make_private(path: Path) -> None:
    """Take others' rights to a file away, where it is there and belongs to this process's user."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # It isn't there, or lies where nothing can be changed: whoever put it there knows why.
        status = path.stat()
        if S_ISREG(status.st_mode) and status.st_mode & 0o077 and status.st_uid == os.geteuid():
            path.chmod(S_IMODE(status.st_mode) & 0o700)


def variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of `.env`, overridden by those of the environment. Raise SettingsError."""
    environ = os.environ if environ is None else environ
    return file_variables(environ) | dict(environ)


def sources() -> dict[str, str]:
    """Return where each variable that is set comes from: the environment, or `.env`."""
    return {
        name: "environment" if name in os.environ else str(ENV_FILE) for name, value in variables().items() if value
    }


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
