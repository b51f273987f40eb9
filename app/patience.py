"""Waiting for something until a deadline, cheaply."""

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar, cast

Result = TypeVar("Result")
LOOK_EVERY_SECONDS = 1


class Patience:
    """Waits until deadlines, with one timer for all: one for each would cost every request with a body some 5 µs."""

    def __init__(self) -> None:
        self.waiting: dict[asyncio.Task[object], float] = {}
        self.timer: asyncio.TimerHandle | None = None

    async def wait(self, what: Awaitable[Result], deadline: float) -> Result:
        """What was waited for. Raises TimeoutError within a second of the deadline, which is a time of perf_counter."""
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self.waiting[task] = deadline
        if self.timer is None:
            self.look_later()
        try:
            return await what
        except asyncio.CancelledError:
            if task in self.waiting:  # it wasn't us who cancelled it
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            self.waiting.pop(task, None)

    def look_later(self) -> None:
        """Look for what is late in a while."""
        self.timer = asyncio.get_running_loop().call_later(LOOK_EVERY_SECONDS, self.look)

    def look(self) -> None:
        """Give up what is late, and look again while anything waits."""
        now = perf_counter()
        for task in [task for task, deadline in self.waiting.items() if deadline < now]:
            del self.waiting[task]
            task.cancel()
        self.timer = None
        if self.waiting:
            self.look_later()
