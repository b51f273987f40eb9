"""The process that supervises the workers of the service."""

import signal
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import Any

from granian.server.mp import MPServer


class DrainingServer(MPServer):
    """Granian, which serves on for a while after the first SIGTERM; SIGINT or a second signal stops it at once.

    The workers look for a file: one that starts meanwhile, in the place of one that died, knows it too.
    """

    def __init__(self, target: str, *, drain_file: Path, drain_seconds: float, **options: Any) -> None:  # noqa: ANN401 - Granian's
        super().__init__(target, **options)
        self.drain_file = drain_file
        self.drain_seconds = drain_seconds

    def signal_handler_interrupt(self, number: int, frame: FrameType | None) -> None:
        """Make this instance unready, and stop it later; or stop it now."""
        if number == signal.SIGTERM and self.drain_seconds and not self.drain_file.exists():
            self.drain_file.touch()
            timer = Timer(self.drain_seconds, super().signal_handler_interrupt)
            timer.daemon = True
            timer.start()
        else:
            super().signal_handler_interrupt(number, frame)  # type: ignore[no-untyped-call] # Granian's
