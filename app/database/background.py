"""Work that goes on beside the service's requests, for as long as the service runs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60
MOST_DEATHS = 3

log = structlog.stdlib.get_logger("background")


class Background:
    """Work that never ends by itself; when a bug has ended it, it is begun again, after a while."""

    def __init__(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self.death = f"{name}_died"
        self.work = work
        self.deaths = 0
        self.running_since: float | None = None

    @asynccontextmanager
    async def beside(self) -> AsyncGenerator[None]:
        """Do the work beside the block; cancel it at the end, and wait until it has ended."""
        task = asyncio.create_task(self._keep_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    @property
    def is_down(self) -> bool:
        """Return whether it has died again and again, and hasn't run for a minute since."""
        return self.deaths >= MOST_DEATHS and not self._is_steady()

    def _is_steady(self) -> bool:
        return self.running_since is not None and time.monotonic() - self.running_since > STEADY_SECONDS

    async def _keep_on(self) -> None:
        while True:
            self.running_since = time.monotonic()
            try:
                await self.work()
            except Exception as error:
                self.deaths = 1 if self._is_steady() else self.deaths + 1
                self.running_since = None
                log.critical(self.death, exc_info=error, deaths=self.deaths)
            await asyncio.sleep(min(FIRST_DELAY_SECONDS * 2.0 ** (self.deaths - 1), LONGEST_DELAY_SECONDS))
