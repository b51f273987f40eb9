"""The recipes' set-up: it installs what a lock file names by uv or by pip, and says in one line what is wrong."""

import os
import shutil
import subprocess
import sys
import venv
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.programs import ROOT, environment

PROGRAMS = Path(sys.prefix) / "bin"


@pytest.fixture(params=["uv", "pip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The path of a terminal that has uv, or doesn't."""
    programs = tmp_path / "programs"
    programs.mkdir()
    if request.param == "uv":
        if not (PROGRAMS / "uv").exists():
            pytest.skip("uv is not installed")
        (programs / "uv").symlink_to(PROGRAMS / "uv")
    others = [folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists()]
    return os.pathsep.join([str(programs), *others])


@pytest.fixture
def checkout(tmp_path: Path, path: str) -> Path:
    """A checkout whose lock file names one package, which is a file beside it."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "justfile", folder)
    for name in ("requirements.lock", "requirements-dev.lock"):
        (folder / name).touch()
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    digest = sha256(wheel.read_bytes()).hexdigest()
    (folder / "requirements.lock").write_text(f"tiny @ {wheel.as_uri()} --hash=sha256:{digest}\n")
    venv.create(folder / ".venv", symlinks=True)
    if shutil.which("uv", path=path) is None:
        # A link takes no time; making an environment with pip takes seconds.
        pip = find_spec("pip")
        if pip is None or pip.origin is None:
            pytest.skip("pip is not installed")
        (packages,) = folder.glob(".venv/lib/python*/site-packages")
        (packages / "pip").symlink_to(Path(pip.origin).parent)
    return folder


def set_up(checkout: Path, path: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe on which the others build."""
    return subprocess.run(
        [PROGRAMS / "just", "_install", "requirements.lock"],
        cwd=checkout,
        env=environment(PATH=path, PYTHONPATH="", UV_NO_CONFIG="1", UV_OFFLINE="1", PIP_NO_INDEX="1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_the_packages_of_a_lock_file_are_installed_once(checkout: Path, path: str) -> None:
    ended = set_up(checkout, path)
    assert (ended.returncode, ended.stderr) == (0, "Setting up .venv (the first time takes up to a minute) ...\n")
    assert list(checkout.glob(".venv/lib/python*/site-packages/tiny.py"))
    ended = set_up(checkout, path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_a_package_with_another_hash_is_refused_in_one_line(checkout: Path, path: str) -> None:
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text().replace("sha256:", "sha256:" + "0" * 8, 1)[:-9] + "\n")
    ended = set_up(checkout, path)
    assert ended.returncode == 1
    _, line, *rest = ended.stderr.splitlines()
    assert line.startswith("The packages of requirements.lock can't be installed: ")
    assert "hash" in (checkout / ".venv" / "install.log").read_text().lower()
    assert line.endswith(" (all of it: .venv/install.log)")
    assert rest == []
    assert not list(checkout.glob(".venv/lib/python*/site-packages/tiny.py"))
    assert set_up(checkout, path).returncode == 1
