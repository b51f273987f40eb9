"""Turns a fresh clone into a project of one's own: `just rename "Your API" "What it is for."`.

It writes the new name wherever the old one stands: in the API's title, the sender of mails, the package, the image, the
unit, the README. It leaves LICENSE as it is, whose notice has to stay, and removes itself.
"""

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

TITLE = "Backend API"
SLUG = "backend-api"
ABOUT = re.compile(r"(?<=\A# Backend API\n\n).*?(?=\n\n)", re.DOTALL)
DESCRIPTION = re.compile(r'(?<=^description = ").*?(?="$)', re.MULTILINE)
NAME = re.compile(r"[^\W\d_][\w -]{0,39}")
LONGEST_LINE = 120
KEPT = {"LICENSE", ".env"}
OWN = ["deploy/rename.py", "tests/test_rename.py"]
OWN_PARTS = re.compile(
    r"^## Make it yours\n.*?(?=^## )|^# Turn a fresh clone.*?\n\n|^- `just rename`[^\n]*\n", re.MULTILINE | re.DOTALL
)


def rename(root: Path, title: str, about: str) -> None:
    """Give the project in a folder another title, and say what it is for unless `about` is empty."""
    slug = slug_of(title)
    for name in OWN:
        (root / name).unlink()
    for path in list(files(root)):
        try:
            old = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        new = OWN_PARTS.sub("", described(path.name, old, about) if about else old)
        new = new.replace(TITLE, title).replace(SLUG, slug).replace(SLUG.replace("-", "_"), slug.replace("-", "_"))
        if new != old:
            path.write_text(new, encoding="utf-8")
        if SLUG in path.name:
            path.rename(path.with_name(path.name.replace(SLUG, slug)))


def slug_of(title: str) -> str:
    """Return the name for packages, images and units: small letters of ASCII, digits and hyphens. Exit without any."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not NAME.fullmatch(title) or not slug[:1].isalpha():
        sys.exit("The name must have at most 40 letters, digits, spaces and hyphens, and begin with a letter")
    return slug


def files(root: Path) -> Iterator[Path]:
    """Yield the project's files, without those that belong to this machine."""
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if name not in {".git", "__pycache__", "outbox"} and not name.startswith(".venv") and "_cache" not in name
        ]
        yield from (Path(folder, name) for name in names if name not in KEPT and ".sqlite3" not in name)


def described(name: str, text: str, about: str) -> str:
    """Return the README or the package's metadata with another description, and any other file as it is."""
    if name == "README.md":
        return ABOUT.sub(lambda _: about, text)
    return DESCRIPTION.sub(lambda _: about, text) if name == "pyproject.toml" else text


if __name__ == "__main__":
    project = Path(__file__).parent.parent
    if not (project / "README.md").read_text(encoding="utf-8").startswith(f"# {TITLE}\n"):
        sys.exit(f"The README no longer begins with {TITLE}: this project has a name of its own")
    wanted, purpose = sys.argv[1], "".join(sys.argv[2:3])
    if '"' in purpose or "\\" in purpose or not purpose.isprintable():
        sys.exit("The description must be one line without quotation marks")
    rename(project, wanted, purpose)
    print(f"This is {wanted} now. See what changed: git diff; then: just format check")  # noqa: T201 - its answer
