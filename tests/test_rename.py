"""`just rename` turns a clone into somebody's own project."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, environment

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "*_cache", "__pycache__", "*.sqlite3*", "outbox", ".env", ".coverage*"
)
QUICK = [
    "tests/test_deploy.py::test_docker_and_systemd_do_not_kill_the_service_before_it_gives_up_its_requests",
    "tests/test_deploy.py::test_the_page_for_operators_has_every_setting_and_its_default",
    "tests/jobs/test_mail.py::test_no_header_can_be_injected",
    "tests/http/test_openapi.py::test_the_document_names_the_api_its_version_and_its_sections",
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of this checkout."""
    return Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=NOT_COPIED))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder until it ends."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.slow
def test_a_clone_gets_a_name_of_its_own_and_passes_its_tests(clone: Path) -> None:
    ended = run(clone, "deploy/rename.py", "Bücher & mehr", "")
    assert (ended.returncode, ended.stdout) == (1, "")
    ended = run(clone, "deploy/rename.py", "Bücher-API", "Lends books to readers.")
    assert (ended.returncode, ended.stderr) == (0, "")

    texts = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    left = {path.name for path, text in texts.items() if any(name in text for name in (b"Backend API", b"backend-api"))}
    assert left == {"LICENSE"}
    for name in ("justfile", "README.md", "CHANGELOG.md"):
        text = (clone / name).read_text()
        assert "just rename" not in text
        assert "Make it yours" not in text
    assert "## Add a resource" in (clone / "README.md").read_text()
    assert "## Commands" in (clone / "README.md").read_text()
    assert (clone / "README.md").read_text().startswith("# Bücher-API\n\nLends books to readers.\n\n- **Accounts**")
    assert 'name = "bucher-api"' in (clone / "pyproject.toml").read_text()
    assert 'description = "Lends books to readers."' in (clone / "pyproject.toml").read_text()
    assert "bucher-api" in (clone / "deploy" / "bucher-api.service").read_text()
    assert "upstream bucher_api" in (clone / "deploy" / "nginx.conf").read_text()

    tests = run(clone, "-m", "pytest", "--quiet", "--numprocesses=0", *QUICK)
    assert tests.returncode == 0, tests.stdout


def test_a_project_with_a_name_of_its_own_is_left_alone(clone: Path) -> None:
    (clone / "README.md").write_text("# My API\n")
    ended = run(clone, "deploy/rename.py", "Your API")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert (clone / "deploy" / "backend-api.service").exists()
