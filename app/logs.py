"""Structured logs: readable lines in development, one JSON object a line in production."""

import logging
import re
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being served; every line that is logged meanwhile has it."""


def add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the request's id to a line that has none."""
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


# PostgreSQL's DETAIL on a refused row quotes the row, which may hold an e-mail address or the hash of a password.
DETAIL = re.compile(r"^DETAIL: .*?(?=^HINT: |^\[SQL: |^\(Background |^$|\Z)", re.MULTILINE | re.DOTALL)


def hide_details(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove the DETAIL of PostgreSQL's errors from a line's traceback."""
    if exception := event.get("exception"):
        event["exception"] = DETAIL.sub("DETAIL: (hidden)\n", exception)
    return event


def log_security_event(event: str, **fields: object) -> None:
    """Log a login, its failure, or a change of credentials or rights; `fields` hold ids, never a secret.

    `app/security/events.py` calls it, for each event that it records.
    """
    structlog.get_logger().info(event, kind="security", **fields)


def json_line(event: EventDict, **_: object) -> str:
    """Return an event as one line of JSON, in which a line break of a value is escaped."""
    return msgspec.json.encode(event, enc_hook=repr).decode()


class Output:
    """Standard output, to which lines go whole; one that can't be written is lost, and costs nothing but itself.

    The next one that can be tells how many were.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """`stream` is None where the process was started without one."""
        self.stream = stream
        # Without the buffers, which would keep what could not be written, and fail again at the end of the process.
        self.raw = getattr(getattr(stream, "buffer", None), "raw", None)
        self.is_cut = False
        self.lost = 0

    def write(self, text: str) -> None:
        """Write a line."""
        try:
            self._write(text)
        except (OSError, ValueError):  # a closed pipe, a full disk, a terminal that is gone; a closed file
            self.lost += 1
        else:
            self.lost = 0

    def add_lost(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Put on the line how many before it were lost."""
        if self.lost:
            event["lines_lost"] = self.lost
        return event

    def flush(self) -> None:
        """Do nothing: what is written has gone."""

    def isatty(self) -> bool:
        """Return whether somebody reads it in a terminal."""
        return self.stream is not None and self.stream.isatty()

    def _write(self, text: str) -> None:
        if self.stream is None:
            raise BrokenPipeError
        if self.raw is None:
            self.stream.write(text)
            self.stream.flush()
            return
        rest = memoryview(f"{chr(10) * self.is_cut}{text}".encode(self.stream.encoding, "backslashreplace"))
        while rest:
            written = self.raw.write(rest)
            if written is None:  # a pipe that doesn't block, and is full
                raise BlockingIOError
            rest = rest[written:]
            self.is_cut = bool(rest)


def say(line: str) -> None:
    """Tell the operator something on standard output."""
    Output(sys.stdout).write(f"{line}\n")


def configure(level: str, *, production: bool, extras: Sequence[Processor] = ()) -> None:
    """Send the application's logs and those of the libraries to standard output in one format.

    `level` is the lowest level of the application's lines; libraries log warnings at least. `extras` are further
    processors, which add to each line.
    """
    output = Output(sys.stdout)
    shared: list[Processor] = [
        add_request_id,
        output.add_lost,
        *extras,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = renderers(production=production, colors=output.isatty())
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        # This logger writes a line and its end at once. PrintLogger may write them apart, and another worker's line may
        # come between.
        # Not reported: `PrintLogger.msg` in structlog/_output.py.
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", output)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(library_formatter(shared, last))
    logging.basicConfig(
        level=max(logging.getLevelNamesMapping()[level], logging.WARNING), handlers=[handler], force=True
    )


def library_formatter(shared: Sequence[Processor], last: Sequence[Processor]) -> logging.Formatter:
    """Return the formatter that gives libraries' lines the format of the application's own."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def renderers(*, production: bool, colors: bool) -> list[Processor]:
    """Return the processors that turn an event into a line: JSON in production, else text for a reader."""
    return [
        structlog.processors.format_exc_info,
        hide_details,
        structlog.processors.JSONRenderer(serializer=json_line)
        if production
        # The default tracebacks show local variables, and with them passwords and tokens.
        else structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]
