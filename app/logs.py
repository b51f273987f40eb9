"""Structured logs: readable lines in development, one JSON object a line in production."""

import logging
import sys
from contextvars import ContextVar

import msgspec
import structlog
from sqlalchemy.exc import StatementError
from structlog.typing import EventDict, Processor, WrappedLogger

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request being served, on every line that is logged meanwhile."""


def add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the request's id on the line, unless the line names one."""
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


def hide_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out of a traceback what a database says of rows and parameters: people's addresses, hashes and texts.

    The kind of error, its SQLSTATE, its constraint and the statement stay.
    """
    error = event.get("exc_info")
    error = sys.exc_info()[1] if error is True else error[1] if isinstance(error, tuple) else error
    while isinstance(error, BaseException):
        told = [getattr(error, name, None) for name in ("sqlstate", "constraint_name")]
        if isinstance(error, StatementError):
            error.hide_parameters = True
            error.args = (type(error.orig).__qualname__,)
        elif told[0]:  # a driver's own
            error.args = (" ".join(str(part) for part in told if part),)
            error.__dict__.update(detail=None, hint=None)
        error = error.__cause__ or error.__context__
    return event


def security_event(event: str, **fields: str | int | None) -> None:
    """One line about a login, a failure, or a change of credentials or rights; `fields` hold ids, never a secret."""
    structlog.get_logger().info(event, kind="security", **fields)


def json_line(event: EventDict, **_: object) -> str:
    """One line of JSON; a newline in a value is escaped, so one event stays one line."""
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure(level: str, *, production: bool) -> None:
    """Send the application's logs and those of the libraries to standard output in one format."""
    shared: list[Processor] = [
        add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_values,
    ]
    renderers: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=json_line)]
        if production
        # Its usual tracebacks show local variables, and with them passwords and tokens.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(
        level=max(logging.getLevelNamesMapping()[level], logging.WARNING), handlers=[handler], force=True
    )
