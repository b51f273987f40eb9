"""The guides to new resources work, word for word."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import ROOT, run

COPIED = ["app", "migrations", "tests", "alembic.ini", "pyproject.toml"]
# The name of a file, on a line of its own, or a block of its content, of changes to it, or of commands.
NAME_OR_BLOCK = re.compile(r"^`([\w/.]+)`$|^```(python|diff|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the recipes of the justfile run that the guides name.
RECIPES = {
    "migrate": ["alembic upgrade head"],
    "revision": ["alembic revision --autogenerate --message"],
    "format": ["ruff check --quiet --select I --fix app migrations", "ruff format --quiet app migrations"],
}
# Beside the new tests, those of the suite that ask of every feature, module and operation what is asked of these.
ASKED = ["auth/test_matrix.py", "http/test_openapi.py", "test_features.py", "test_layout.py", "test_migrations.py"]
MOST_LINES = 73


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, which no measurement of coverage follows."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def blocks(guide: str) -> Iterator[tuple[str, str, str]]:
    """Yield each block of a guide: its kind, the file that it belongs to, and its text."""
    file = ""
    for name, kind, text in NAME_OR_BLOCK.findall((ROOT / "docs" / guide).read_text()):
        file = name or file
        if kind:
            yield kind, file, text


def follow(guide: str, checkout: Path) -> None:
    """Write the files, make the changes and run the commands, in the guide's order."""
    for kind, name, text in blocks(guide):
        match kind:
            case "python":
                (checkout / name).parent.mkdir(exist_ok=True)
                (checkout / name).write_text(text)
            case "diff":
                change(checkout / name, text.splitlines())
            case _:
                for line in text.splitlines():
                    _, recipe, *arguments = shlex.split(line)
                    for command in RECIPES[recipe]:
                        do(checkout, *shlex.split(command), *arguments)


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


def lines_of(guide: str) -> tuple[int, int]:
    """Count the lines of code that a guide adds, and those of them that are changes to other files."""
    written = [line for kind, _, text in blocks(guide) if kind == "python" for line in text.splitlines() if line]
    changed = [
        line for kind, _, text in blocks(guide) if kind == "diff" for line in text.splitlines() if line[0] == "+"
    ]
    return len(written) + len(changed), len(changed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "features"),
    [("add-a-resource.md", ["notes"]), ("add-a-shared-resource.md", ["categories", "projects"])],
)
def test_a_reader_of_a_guide_has_its_resources(guide: str, features: list[str], checkout: Path) -> None:
    """They are in order like the rest, and their tests pass on both databases."""
    follow(guide, checkout)
    written = ["app", "migrations", *(f"tests/{name}" for name in features)]
    do(checkout, "ruff", "check", *written)
    do(checkout, "ruff", "format", "--check", *written)
    chosen = " or ".join([*features, "every_field", "models_say", "sqlite-owner", "sqlite-stranger"])
    do(checkout, "pytest", "--numprocesses=0", "-k", chosen, *(f"tests/{name}" for name in [*features, *ASKED]))


def test_a_resource_is_short_and_one_line_outside_its_folder() -> None:
    lines, elsewhere = lines_of("add-a-resource.md")
    assert lines <= MOST_LINES
    assert elsewhere == 1
