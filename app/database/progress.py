"""The progress of work on many rows: a bar on an operator's terminal, or else a line a minute in the log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

import structlog

LINE_EVERY_SECONDS = 60

log = structlog.stdlib.get_logger("progress")
bars: ContextVar[bool] = ContextVar("bars", default=False)
"""Whether bars may be shown: a command sets it, and the service, whose terminal has its log, doesn't."""


@contextmanager
def progress(work: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Give a function to call with the number of rows that were just done, of `total` if that is known."""
    if bars.get() and sys.stderr.isatty():
        with bar(work, total) as advance:
            yield advance
    else:
        yield Lines(work, total).advance


@contextmanager
def bar(work: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, which goes when the work is done."""
    # Imported here, since the service needs none of it.
    from rich.console import Console  # noqa: PLC0415 - only where a bar is shown
    from rich.progress import (  # noqa: PLC0415 - the same
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as shown:
        task = shown.add_task(work, total=total)
        yield lambda rows: shown.advance(task, rows)


class Lines:
    """The lines about some work in the log; work of less than a minute has none."""

    def __init__(self, work: str, total: int | None) -> None:
        self.work = work
        self.total = total
        self.done = 0
        self.last = monotonic()

    def advance(self, rows: int) -> None:
        """Count rows, and log a line when the last one was a minute ago."""
        self.done += rows
        if monotonic() - self.last >= LINE_EVERY_SECONDS:
            self.last = monotonic()
            log.info("progress", work=self.work, done=self.done, total=self.total)
