"""The disk is full: reads go on, writes are refused and not half done, and succeed once there is room."""

import pwd
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest
from httpx import AsyncClient

from tests import postgresql
from tests.factories import create_item
from tests.faults.load import workers
from tests.faults.production import Record, assert_available_or_503, production, signed_in

pytestmark = pytest.mark.faults

LONG = "x" * 10_000
MOST_ITEMS = 95
REFUSALS = 30  # more than the pool has connections


@contextmanager
def small_disk(folder: Path, *, megabytes: int, owner: str) -> Iterator[None]:
    """Mount a disk of that size as a new folder; skip the test without root's right to do so."""
    folder.mkdir()
    options = f"size={megabytes}m,mode=700,uid={pwd.getpwnam(owner).pw_uid}"
    mount = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("Nobody but root can mount a small disk, and not in every container")
    try:
        yield
    finally:
        subprocess.run([shutil.which("umount") or "umount", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill the disk of a folder for as long as the block runs."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        ballast.unlink()


@contextmanager
def limited(pid: int, file: Path) -> Iterator[None]:
    """Let a process and its children make no file longer than this one is; this takes no rights."""
    processes, size = [pid, *children(pid)], file.stat().st_size
    before = [resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)) for process in processes]
    try:
        yield
    finally:
        for process, limits in zip(processes, before, strict=True):
            resource.prlimit(process, resource.RLIMIT_FSIZE, limits)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    return [process for child in workers(pid) for process in (child, *children(child))]


async def check_full_disk(client: AsyncClient, full: AbstractContextManager[None], record: Record) -> None:
    """Write while the disk is full and afterwards; check that exactly the items are there that were acknowledged."""
    answers = [await create_item(client) for _ in range(5)]
    with full:
        while sum(answer.status_code == 503 for answer in answers) < REFUSALS:
            assert len(answers) < MOST_ITEMS, "The disk did not fill up"
            answers.append(await create_item(client, description=LONG))
            assert_available_or_503(answers[-1])
        for path in ("/items/", "/users/me", "/health/live", "/health/ready", answers[0].headers["Location"]):
            assert (await client.get(path)).status_code == 200
    started = monotonic()
    answers.append(await create_item(client, description=LONG))
    recovered = monotonic() - started
    assert answers[-1].status_code == 201
    acknowledged = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert {item["id"] for item in (await client.get("/items/?limit=100")).json()} == acknowledged
    record("acknowledged", len(acknowledged))
    record("refused", REFUSALS)
    record("lost", 0)
    record("seconds to recover", round(recovered, 2))
    assert recovered < 2


async def test_a_full_disk_of_postgresql(server_folder: str, tmp_path: Path, record_property: Record) -> None:
    """Its log has room, as on a disk of its own: without room for its log, PostgreSQL ends."""
    data = Path(server_folder, "data")
    with (
        small_disk(data, megabytes=140, owner="nobody"),
        postgresql.durable_server(server_folder, "--wal-segsize=64") as server,
        production(tmp_path, server.url) as (url, _),
    ):
        async with signed_in(url) as client:
            await check_full_disk(client, filled(data), record_property)


async def test_a_full_disk_of_sqlite(tmp_path: Path, record_property: Record) -> None:
    """The log beside the database can't grow either."""
    disk = tmp_path / "disk"
    with (
        small_disk(disk, megabytes=8, owner="root"),
        production(tmp_path / "service", f"sqlite:///{disk / 'file'}") as (url, _),
    ):
        async with signed_in(url) as client:
            await check_full_disk(client, filled(disk), record_property)


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux limits the files of a process that runs")
async def test_a_file_of_sqlite_that_cannot_grow(tmp_path: Path, record_property: Record) -> None:
    """It runs also where no disk can be mounted."""
    file = tmp_path / "file"
    with production(tmp_path / "service", f"sqlite:///{file}") as (url, process):
        async with signed_in(url) as client:
            await check_full_disk(client, limited(process.pid, tmp_path / "file-wal"), record_property)
