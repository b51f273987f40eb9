"""The feature of history: the store of security events."""

from app.history.repository import EventRepository
from app.history.service import History
from app.http.feature import Feature, Parts


def feature(parts: Parts) -> Feature:
    """Return what keeps security events as rows; without it, they are lines of the log alone."""
    parts.events.store = History(EventRepository(parts.database))
    return Feature()
