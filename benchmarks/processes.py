"""End the processes that the benchmarks start, and measure their CPU time and memory."""

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

STOP_SECONDS = 15


def stop(process: subprocess.Popen[bytes], by: signal.Signals = signal.SIGTERM) -> None:
    """End a process, which ends its children itself; kill all of them when that takes too long."""
    if process.poll() is not None:
        return
    family = tree(process.pid)
    process.send_signal(by)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for member in family:
            member.kill()
        process.wait()


def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process and its children, those that have ended included."""
    root, *children = tree(pid)
    seconds = 0.0
    for child in children:
        # A child that has just ended is in its parent's times, which are read last.
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:4])
    return seconds + sum(root.cpu_times()[:4])


def resident_mib(pid: int) -> float:
    """Return the memory that a process and its children hold now, each page that they share once."""
    return sum(member.memory_full_info().pss for member in tree(pid)) / 2**20


def peak_resident_mib(pid: int) -> float:
    """Return the most that a process and its children ever held; pages that they share count in each."""
    return sum(_peak_kib(member.pid) for member in tree(pid)) / 2**10


def _peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
