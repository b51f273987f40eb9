"""Turns at work that is costly: a few at once, and fewer for one user, so that nobody takes all connections."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.errors import Unavailable

TURNS_OF_ONE_USER = 2
WAIT_SECONDS = 1


class Turns:
    """The turns of one process at one database: `at_once` of all users together, TURNS_OF_ONE_USER of each."""

    def __init__(self, at_once: int, what: str) -> None:
        """Give turns at work that `what` names, in the plural, for those who get none."""
        self.what = what
        self.all = asyncio.Semaphore(at_once)
        self.of_users: dict[int, asyncio.Semaphore] = {}
        self.asking: dict[int, int] = {}
        """The users who have a turn or wait for one, and how many."""

    @asynccontextmanager
    async def turn(self, user_id: int) -> AsyncGenerator[None]:
        """Take a turn for the block. Raise Unavailable when none is free within WAIT_SECONDS.

        A user's own turns come first, so that whoever waits for one of these keeps nobody else waiting.
        """
        own = self._enter(user_id)
        try:
            await acquire(own, self.what)
            try:
                await acquire(self.all, self.what)
                try:
                    yield
                finally:
                    self.all.release()
            finally:
                own.release()
        finally:
            self._leave(user_id)

    def _enter(self, user_id: int) -> asyncio.Semaphore:
        self.asking[user_id] = self.asking.get(user_id, 0) + 1
        return self.of_users.setdefault(user_id, asyncio.Semaphore(TURNS_OF_ONE_USER))

    def _leave(self, user_id: int) -> None:
        self.asking[user_id] -= 1
        if not self.asking[user_id]:
            del self.asking[user_id], self.of_users[user_id]


async def acquire(semaphore: asyncio.Semaphore, what: str) -> None:
    """Acquire a semaphore. Raise Unavailable after WAIT_SECONDS."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await semaphore.acquire()
    except TimeoutError:
        raise Unavailable(f"Too many {what} at once; try again") from None
