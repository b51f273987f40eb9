"""Structured logs: readable lines in development, one JSON object a line in production."""

import logging
import re
import sys
from collections.abc import Sequence
from contextvars import ContextVar

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request being served, on every line that is logged meanwhile."""


def add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the request's id on the line, unless the line names one."""
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


# What PostgreSQL says about a row that it refuses holds the row: an address, or the hash of a password.
DETAIL = re.compile(r"^DETAIL: .*?(?=^HINT: |^\[SQL: |^\(Background |^$|\Z)", re.MULTILINE | re.DOTALL)


def hide_rows(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut the details of the database's errors out of a traceback."""
    if exception := event.get("exception"):
        event["exception"] = DETAIL.sub("DETAIL: (hidden)\n", exception)
    return event


def security_event(event: str, **fields: str | int | None) -> None:
    """One line about a login, a failure, or a change of credentials or rights; `fields` hold ids, never a secret."""
    structlog.get_logger().info(event, kind="security", **fields)


def json_line(event: EventDict, **_: object) -> str:
    """One line of JSON; a newline in a value is escaped, so one event stays one line."""
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure(level: str, *, production: bool, extras: Sequence[Processor] = ()) -> None:
    """Send the application's logs and those of the libraries to standard output in one format.

    `extras` add to each line what is known besides.
    """
    shared: list[Processor] = [
        add_request_id,
        *extras,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = renderers(production=production)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        # Whole lines: PrintLogger writes the end of a line by itself where output isn't buffered, and another worker's
        # line may come between.
        # Not reported: `PrintLogger.msg` in structlog/_output.py.
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(library_formatter(shared, last))
    logging.basicConfig(
        level=max(logging.getLevelNamesMapping()[level], logging.WARNING), handlers=[handler], force=True
    )


def library_formatter(shared: Sequence[Processor], last: Sequence[Processor]) -> logging.Formatter:
    """Return what writes the logs of libraries as the application's own are written."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def renderers(*, production: bool) -> list[Processor]:
    """Return what makes a line of an event: JSON in production, else text for a reader."""
    return [
        structlog.processors.format_exc_info,
        hide_rows,
        structlog.processors.JSONRenderer(serializer=json_line)
        if production
        # Its usual tracebacks show local variables, and with them passwords and tokens.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
