"""Puts the application together: its features, on the parts that they share."""

import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp

from app import logs
from app.http.edge import Edge, Observer, PathPrefix, with_head
from app.http.feature import Feature, Parts, combine
from app.http.idempotency import provide_once
from app.http.idempotency.repository import AnswerRepository
from app.http.openapi import openapi_config
from app.http.problems import HANDLERS
from app.http.requests import StrictRequest, check_request, index_query_parameters
from app.jobs.worker import Worker
from app.operations import feature as operations
from app.operations.commands import Commands, do_chores
from app.operations.health import log_failure
from app.operations.metrics import create_metrics
from app.operations.workers import end_with_parent
from app.settings import Settings, SettingsError

if TYPE_CHECKING:
    from app.operations.tracing import Tracing

    app: Litestar

FeatureFactory = Callable[[Parts], Feature]
FEATURES: Sequence[FeatureFactory] = [
    import_module(f"app.{name}.feature").feature
    for name in (
        "users",
        "auth",
        "items",
    )
]
PURGE = "purge"
MAX_BODY_BYTES = 1024 * 1024


def create_app(settings: Settings, features: Sequence[FeatureFactory] = FEATURES) -> Litestar:
    """Return an application of its own: its engine, its pool and its queue of hashes are nobody else's."""
    parts = Parts(settings)
    tracing, metrics = create_tracing(parts), create_metrics(parts)
    logs.configure(settings.log_level, production=settings.production, extras=tracing.log_processors if tracing else ())
    whole = combine([shared(parts), *(feature(parts) for feature in features)])
    worker = create_worker(parts, whole)
    whole = combine([whole, operations.feature(parts, worker, whole.chores, metrics)])
    application = Litestar(
        route_handlers=whole.routes,
        dependencies=whole.dependencies,
        state=parts.state,
        on_app_init=whole.on_app_init,
        middleware=whole.middleware,
        before_request=check_request,
        exception_handlers=HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=openapi_config(settings, whole.tags),
        cors_config=cors(settings.cors_origins),
        lifespan=[lifespan(parts, worker, tracing)],
        plugins=[Commands(whole.commands)],
        logging_config=None,
        debug=False,
    )
    index_query_parameters(application)
    # Litestar's middleware doesn't see what matches no route: https://github.com/litestar-org/litestar/issues/175
    application.asgi_handler = layers(application, settings, metrics, tracing)
    return application


def shared(parts: Parts) -> Feature:
    """Return what every feature's handlers may ask for."""
    return Feature(
        dependencies={
            "transaction": Provide(parts.database.provide_transaction),
            "once": Provide(provide_once(parts.database), sync_to_thread=False),
        },
        chores=[AnswerRepository(parts.database).purge],
    )


def create_worker(parts: Parts, whole: Feature) -> Worker:
    """Return the worker that runs the features' jobs, and once a day their chores."""

    async def purge(_payload: object) -> None:
        await do_chores(whole.chores)

    return Worker(parts.jobs, {**whole.jobs, PURGE: purge}, daily=[PURGE])


def create_tracing(parts: Parts) -> "Tracing | None":
    """Return what makes and sends spans, where there is a collector; without one its packages aren't even imported."""
    endpoint = parts.settings.otel_exporter_otlp_endpoint
    if not endpoint:
        return None
    from app.operations.tracing import Tracing  # noqa: PLC0415 - its packages may not be there

    tracing = Tracing(endpoint, parts.settings.otel_service_name)
    tracing.trace(*parts.databases)
    return tracing


def lifespan(
    parts: Parts, worker: Worker, tracing: "Tracing | None"
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """Return what runs beside the application, and closes its parts at the end."""

    @asynccontextmanager
    async def run(_app: Litestar) -> AsyncGenerator[None]:
        try:
            await log_failure(parts.database)
            async with (
                parts.running(),
                worker.in_background() if parts.settings.jobs_in_process else nullcontext(),
            ):
                yield
        finally:
            if tracing:
                await tracing.close()

    return run


def layers(application: Litestar, settings: Settings, observer: Observer | None, tracing: "Tracing | None") -> ASGIApp:
    """Return the application within the layers that every request passes first."""
    public = urlsplit(settings.url)
    handler: ASGIApp = Edge(
        application.asgi_handler,
        allow=methods_of_paths(application),
        https=public.scheme == "https",
        observer=observer,
    )
    if public.path:
        handler = PathPrefix(handler, public.path)
    return tracing.requests(handler) if tracing else handler


def methods_of_paths(application: Litestar) -> dict[str, bytes]:
    """Return what OPTIONS answers for each path's template."""
    return {
        route.path_format: with_head(", ".join(route.route_handler_map).encode())
        for route in application.routes
        if isinstance(route, HTTPRoute)
    }


def cors(origins: tuple[str, ...]) -> CORSConfig | None:
    """Return what lets browsers of these origins call; with no origins, answers have no CORS header at all."""
    if not origins:
        return None
    exposed = ["ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID", "X-Total-Count"]
    return CORSConfig(allow_origins=list(origins), expose_headers=exposed)


def load_worker() -> Litestar:
    """Return the application that a worker process calls."""
    end_with_parent()
    return __getattr__("app")


def __getattr__(name: str) -> Litestar:
    """Build `app.main:app`, for any ASGI server, from the environment at its first use, not at import."""
    if name != "app":
        raise AttributeError(name)
    try:
        application = create_app(Settings.load())
    except SettingsError as error:
        sys.exit(f"Configuration error: {error}")
    globals()["app"] = application
    return application
