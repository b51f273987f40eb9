"""The page on security names tests that exist."""

import re
from pathlib import Path

from tests.programs import ROOT

TESTS = Path(__file__).parent
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
REQUIREMENT = re.compile(r"v5\.0\.0-(\d+)\.\d+\.\d+")


def page() -> str:
    """The text of the page."""
    return (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    """It is in the file that the page names."""
    named = set(NAMED.findall(page()))
    assert len(named) > 100
    missing = [
        f"{file}::{name}" for file, name in named if f"def {name}(" not in (TESTS / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_everything_that_looks_like_a_test_is_named_in_full() -> None:
    """The check above would never see a name in another form."""
    assert len(NAMED.findall(page())) == page().count("::test_")


def test_every_chapter_has_its_section() -> None:
    """ASVS 5.0 has seventeen chapters, and each requirement stands in its own."""
    sections = re.split(r"^### V(\d+) .*$", page(), flags=re.MULTILINE)
    chapters = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(chapters) == [str(number) for number in range(1, 18)]
    for number, text in chapters.items():
        assert set(REQUIREMENT.findall(text)) <= {number}
