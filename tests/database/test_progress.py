"""The progress of long work: a bar on an operator's terminal, or else a line a minute in the log."""

import io
import sys

import pytest
from structlog.testing import capture_logs

from app.database import progress as module
from app.database.progress import bars, progress


class Clock:
    """A clock that the test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal; pytest would undo it between a fixture and its test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_without_a_terminal_there_is_one_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of less than a minute has none."""
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    with capture_logs() as logs, progress("items", 1000) as advance:
        for second in range(150):
            clock.seconds = second
            advance(2)
    told = [(line["event"], line["work"], line["done"], line["total"]) for line in logs]
    assert told == [("progress", "items", 122, 1000), ("progress", "items", 242, 1000)]


def test_an_operator_sees_a_bar_that_goes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    token = bars.set(True)
    with capture_logs() as logs, progress("items", 1000) as advance:
        advance(1000)
    bars.reset(token)
    assert "items" in terminal.getvalue()
    assert "1000/1000" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")
    assert logs == []


def test_the_service_shows_no_bar_in_its_own_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with progress("items", 1000) as advance:
        advance(1000)
    assert terminal.getvalue() == ""
