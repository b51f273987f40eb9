"""The worker processes of the server: where they listen, and how they end with the process that started them."""

import os
import signal
import sys
import time
from multiprocessing import parent_process
from threading import Thread
from typing import Any

from granian.server.mp import MPServer

from app.operations.connections import bound_what_clients_hold

STOP_SECONDS = 30
"""The most seconds that a worker that is told to stop has for the requests it has begun."""


def run_worker(number: int, name: str | None, load: Any, sockets: Any, *options: Any) -> None:  # noqa: ANN401 - Granian's
    """Run a worker of Granian's, on a socket whose connections give up clients that take nothing."""
    # Granian has no option for it. Not reported: `ListenerSpec` in granian's src/net.rs.
    (spec, shared), handle = sockets
    if sys.platform == "linux":
        shared = spec.build()
        bound_what_clients_hold(shared.get_fd())
        spec = None
    sockets = ((spec, shared), handle)
    MPServer._spawn_asgi_lifespan_worker(number, name, load, sockets, *options)  # noqa: SLF001 - no public one runs it


def forget_signals_in_workers() -> None:
    """Let SIGTERM end a worker that is still starting, since it inherits Granian's handler, which doesn't end it."""
    if sys.platform != "win32":
        # Not reported: `startup` in granian/server/common.py sets its handlers before it forks.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def end_with_parent() -> None:
    """End this worker when the process that started it has ended or was killed; else it would keep the port."""
    Thread(target=wait_for_parent, daemon=True).start()


def wait_for_parent() -> None:
    """Wait until the parent process has ended, and end this one, by force after STOP_SECONDS."""
    # Not reported: Granian's workers don't watch it, `WorkerProcess` in granian/server/mp.py.
    if parent := parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)
