"""The server process, which supervises the workers and lets them drain before it stops."""

import signal
import sys
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import Any

from granian.server.mp import MPServer

from app.settings.error import SettingsError


class DrainingServer(MPServer):
    """Granian, which goes on serving for `drain_seconds` after the first SIGTERM; others or a second one stop it.

    Workers learn from a file that the service is about to stop, so that one that starts meanwhile knows it, too.
    """

    def __init__(self, target: str, *, drain_file: Path | None, drain_seconds: float, **options: Any) -> None:  # noqa: ANN401 - Granian's
        super().__init__(target, **options)
        self.drain_file = drain_file
        self.drain_seconds = drain_seconds

    def _init_shared_socket(self) -> None:
        """Listen, or find out that the workers can. Raise SettingsError."""
        try:
            super()._init_shared_socket()  # type: ignore[no-untyped-call] # Granian's
        except (OSError, RuntimeError, ValueError) as error:  # Granian's own, of its Rust part
            raise SettingsError(f"HOST and PORT: nobody can listen at {self._bind_addr_fmt}: {error}") from None

    def startup(self, *arguments: Any) -> None:  # noqa: ANN401 - Granian's
        """Start the workers; leave SIGHUP as it was where somebody has this process ignore it, as nohup does."""
        ignored = sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        super().startup(*arguments)  # type: ignore[no-untyped-call] # Granian's
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def signal_handler_reload(self, *_: object) -> None:
        """Stop at once on SIGHUP, as of a terminal that was closed."""
        super().signal_handler_interrupt()  # type: ignore[no-untyped-call] # Granian's

    def signal_handler_interrupt(self, number: int, frame: FrameType | None) -> None:
        """Make this instance unready and stop it after `drain_seconds`, or stop it at once."""
        if number == signal.SIGTERM and self.drain_seconds and self.drain_file and not self.drain_file.exists():
            self.drain_file.touch()
            timer = Timer(self.drain_seconds, super().signal_handler_interrupt)
            timer.daemon = True
            timer.start()
        else:
            super().signal_handler_interrupt(number, frame)  # type: ignore[no-untyped-call] # Granian's
