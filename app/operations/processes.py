"""The processes that serve: one that supervises, and its workers, which end with it."""

import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread, Timer
from types import FrameType
from typing import Any

from granian.server.mp import MPServer

STOP_SECONDS = 30
"""How long a worker has to answer the requests that it has begun."""


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


def forget_signals_in_workers() -> None:
    """Let SIGTERM end a worker that is still starting: it inherits Granian's handler, which only marks its parent."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def load_worker() -> Callable[..., Any]:
    """The application, which a worker calls by ASGI."""
    Thread(target=end_with_parent, daemon=True).start()
    from app.main import app  # noqa: PLC0415 - see metrics_directory

    return app


def end_with_parent() -> None:
    """End this worker when the process that started it is gone, killed say: it would keep the port for ever."""
    if parent := parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)
