"""How long something is waited for."""

import asyncio
from time import perf_counter

import pytest

from app import patience
from app.patience import Patience


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than a service needs to."""
    monkeypatch.setattr(patience, "LOOK_EVERY_SECONDS", 0.02)


async def never() -> None:
    """What doesn't come."""
    await asyncio.Event().wait()


async def soon_enough() -> str:
    """What takes a moment."""
    await asyncio.sleep(0.1)
    return "come"


async def test_what_is_late_is_given_up_and_what_is_not_comes() -> None:
    """Each by its own deadline, and the task that waited goes on."""
    waiting = Patience()
    start = perf_counter()
    late = asyncio.create_task(waiting.wait(never(), start + 0.03))
    other = asyncio.create_task(waiting.wait(soon_enough(), start + 60))
    with pytest.raises(TimeoutError):
        await late
    assert await other == "come"
    assert late.cancelling() == 0


async def test_who_is_cancelled_by_somebody_else_is_cancelled() -> None:
    """That is no time-out."""
    task = asyncio.create_task(Patience().wait(never(), perf_counter() + 60))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_stays_behind() -> None:
    """No entry, and after a moment no timer."""
    waiting = Patience()
    await waiting.wait(soon_enough(), perf_counter() + 60)
    assert not waiting.waiting
    await asyncio.sleep(0.1)
    assert waiting.timer is None
