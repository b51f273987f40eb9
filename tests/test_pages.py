"""The names in README and docs: the files, tests and places that they link to are there."""

import re
from pathlib import Path

import pytest

from tests.programs import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# These pages add files, and a test of their own follows them.
GUIDES = {"add-a-resource.md", "add-a-shared-resource.md"}
FOLDERS = [ROOT, ROOT / "app", ROOT / "app" / "items", ROOT / "tests", ROOT / "tests" / "faults"]
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|lock|toml|yaml|ini))`")
MADE = {".venv/bin", "app/notes", "outbox/"}
TEST = re.compile(r"\btest_\w+\b(?!\.py)")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
SOURCE = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))


def anchors(page: Path) -> set[str]:
    """Return the names that links to a page's headings may end in."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for name, anchor in LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in GUIDES], ids=lambda page: page.stem)
def test_files_and_tests_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    paths = {path for path in PATH.findall(text) if path not in MADE}
    assert [path for path in paths if not any((folder / path).exists() for folder in FOLDERS)] == []
    assert [name for name in set(TEST.findall(text)) if f"def {name}(" not in SOURCE] == []
