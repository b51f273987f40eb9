"""The guide to a new resource works, word for word."""

import re
import shutil
from pathlib import Path

import pytest

from tests.programs import ROOT, run

GUIDE = ROOT / "docs" / "add-a-resource.md"
COPIED = ["app", "migrations", "tests", "alembic.ini", "pyproject.toml"]
TOUCHED = ["app/notes", "app/main.py", "app/openapi.py", "migrations", "tests/notes", "tests/test_imports.py"]
# The name of a file, on a line of its own, or a block of its content or of changes to it.
NAME_OR_BLOCK = re.compile(r"^`([\w/.]+)`$|^```(python|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, which no measurement of coverage follows."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def follow(checkout: Path) -> int:
    """Do what the guide says, and return how many lines that takes."""
    file, lines = checkout, 0
    for name, kind, text in NAME_OR_BLOCK.findall(GUIDE.read_text()):
        if name:
            file = checkout / name
        elif kind == "python":
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            lines += len([line for line in text.splitlines() if line])
        else:
            change(file, text.splitlines())
            lines += text.count("\n+")
    return lines


def change(file: Path, diff: list[str]) -> None:
    """Make one change where the guide shows it, which is one place."""
    before, after = ("".join(f"{line[1:]}\n" for line in diff if line[0] != sign) for sign in "+-")
    text = file.read_text()
    assert text.count(before) == 1, f"{file} has no such lines:\n{before}"
    file.write_text(text.replace(before, after))


def do(checkout: Path, *command: str) -> None:
    """Run what a recipe runs."""
    url = f"sqlite:///{checkout / 'app.sqlite3'}"
    done = run(checkout, *command, DATABASE_URL=url, PYTHONPATH=str(checkout))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_reader_of_the_guide_has_a_resource(checkout: Path) -> None:
    """The resource takes less than 100 lines, is in order like the rest, and its tests pass on both databases."""
    do(checkout, "alembic", "upgrade", "head")
    assert follow(checkout) < 100
    do(checkout, "alembic", "revision", "--autogenerate", "--message", "notes")
    do(checkout, "ruff", "check", "--quiet", "--select", "I", "--fix", *TOUCHED)
    do(checkout, "ruff", "format", "--quiet", "migrations")
    do(checkout, "alembic", "upgrade", "head")
    do(checkout, "alembic", "check")
    do(checkout, "ruff", "check", *TOUCHED)
    do(checkout, "ruff", "format", "--check", *TOUCHED)
    do(checkout, "pytest", "--numprocesses=0", "tests/notes", "tests/test_imports.py")
