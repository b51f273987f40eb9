"""The feature of history: the store of security events, and the routes that list them."""

from litestar import Router
from litestar.openapi.spec import Tag

from app.history.controller import HistoryController
from app.history.repository import EventRepository
from app.history.service import FORGET_JOB, EventHistory, HistoryService
from app.http.feature import Feature, Parts, provide_nearest
from app.http.requests import choices


def feature(parts: Parts) -> Feature:
    """Return what keeps security events as rows and lists them; without it, they are lines of the log alone."""
    store = EventHistory(EventRepository(parts.database), parts.jobs, keep_days=parts.settings.events_keep_days)
    parts.events.store = store
    return Feature(
        routes=[Router("/", route_handlers=[HistoryController], opt=choices(type=parts.events.types))],
        tags=[Tag("History", "What happened to accounts: logins, failures, and changes of credentials and rights.")],
        dependencies={
            "history": provide_nearest(parts.replicas, lambda database: HistoryService(EventRepository(database)))
        },
        jobs={FORGET_JOB: store.forget_rest},
        chores=[store.purge, store.forget_late],
    )
