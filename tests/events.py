"""Security events, as the log and the history tell them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Litestar
from sqlalchemy import select
from structlog.testing import capture_logs

from app.database.models import table_of
from app.history.models import StoredEvent
from app.logs import add_request_id
from tests.factories import parts_of

Event = dict[str, Any]
ADDRESS = "203.0.113.7"
REQUEST = "request-of-the-test"
EVENTS = table_of(StoredEvent)


class Told:
    """The security events of an application: each is a line of the log and a row, which tell the same."""

    def __init__(self, app: Litestar, lines: list[Any]) -> None:
        self.app = app
        self.lines = lines
        self.last_id = 0

    @classmethod
    @contextmanager
    def by(cls, app: Litestar) -> Iterator["Told"]:
        """Collect the events of an application while the block runs."""
        assert parts_of(app).settings.log_level == "INFO"  # The application has configured the log.
        with capture_logs(processors=[add_request_id]) as lines:
            yield cls(app, lines)

    async def __call__(self) -> list[Event]:
        """Return the events since the last call; each line has its row, and each row its line."""
        told, rows = self.read_lines(), await self.read_rows()
        assert sorted(told, key=in_order) == sorted(rows, key=in_order)
        return told

    def read_lines(self) -> list[Event]:
        """Return the lines since they were last read."""
        told = [{**line} for line in self.lines if line.get("kind") == "security"]
        self.lines.clear()
        for line in told:
            assert (line.pop("log_level"), line.pop("kind")) == ("info", "security")
            line.setdefault("request_id", None)  # A line outside of requests has none.
        return told

    async def read_rows(self) -> list[Event]:
        """Return the rows since they were last read, in the form of lines."""
        query = select(EVENTS).where(EVENTS.c.id > self.last_id).order_by(EVENTS.c.id)
        rows = [row._asdict() for row in await parts_of(self.app).database.fetch(query, {})]
        self.last_id = rows[-1]["id"] if rows else self.last_id
        return [as_line(row) for row in rows]


def in_order(told: Event) -> str:
    """Return what events are sorted by: all that they have, since the fields of lines and rows come in other orders."""
    return str(sorted(told.items()))


def as_line(row: dict[str, Any]) -> Event:
    """Return a row in the form of its line."""
    always = {name: row[name] for name in ("user_id", "actor_id", "address", "request_id")}
    sometimes = {name: row[name] for name in ("session_id", "client_id") if row[name] is not None}
    return {"event": row["type"], **always, **sometimes, **row["details"]}


def event(name: str, **fields: object) -> Event:
    """Return an event with what every event has, and these fields."""
    return {"event": name, "user_id": None, "actor_id": None, "address": ADDRESS, "request_id": REQUEST, **fields}
