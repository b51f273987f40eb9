"""The application: `create_app` builds it from the settings and the features, and an ASGI server loads `app`."""

import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp

from app import logs
from app.http.edge import Edge, PathPrefix, RequestObserver, with_head
from app.http.feature import Feature, Parts, combine
from app.http.idempotency import provide_once
from app.http.idempotency.repository import AnswerRepository
from app.http.openapi import openapi_config
from app.http.problems import EXCEPTION_HANDLERS
from app.http.requests import StrictRequest, check_request, index_query_parameters, resolve_one_by_one
from app.jobs.worker import Worker
from app.operations import feature as operations
from app.operations.commands import Commands, run_chores
from app.operations.health import log_failure
from app.operations.workers import end_with_parent
from app.settings import Settings
from app.settings.error import SettingsError

if TYPE_CHECKING:
    from app.operations.metrics import Metrics
    from app.operations.tracing import Tracing

    app: Litestar

FeatureFactory = Callable[[Parts], Feature]
FEATURES: Sequence[FeatureFactory] = [
    import_module(f"app.{name}.feature").feature
    for name in (
        "users",
        "auth",
        "items",
        "oauth",
        "openid",
        "history",
        "api_tokens",
        "factors",
        "pages",
    )
]
PURGE = "purge"
MAX_BODY_BYTES = 1024 * 1024


def create_app(settings: Settings, features: Sequence[FeatureFactory] = FEATURES) -> Litestar:
    """Return a new application, which shares no engine, pool or queue with any other in the process."""
    parts = Parts(settings, feature_names(features))
    tracing, metrics = create_tracing(parts), create_metrics(parts)
    logs.configure(settings.log_level, production=settings.production, extras=tracing.log_processors if tracing else ())
    combined = combine_all(parts, features)
    worker = create_worker(parts, combined)
    combined = combine([combined, operations.feature(parts, worker, combined.chores, metrics)])
    application = Litestar(
        route_handlers=combined.routes,
        dependencies=combined.dependencies,
        state=parts.state,
        on_app_init=combined.on_app_init,
        middleware=combined.middleware,
        before_request=check_request,
        exception_handlers=EXCEPTION_HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=document_config(parts, combined),
        cors_config=cors_config(settings.cors_origins),
        lifespan=[lifespan(parts, worker, tracing)],
        plugins=[Commands(combined.commands)],
        logging_config=None,
        debug=False,
    )
    index_query_parameters(application)
    resolve_one_by_one(application)
    # Litestar's middleware doesn't see requests that match no route: https://github.com/litestar-org/litestar/issues/175
    application.asgi_handler = asgi_handler(application, settings, combined.layers, metrics, tracing)
    return application


def feature_names(features: Sequence[FeatureFactory]) -> list[str]:
    """Return the names of features, which are those of their folders."""
    return [feature.__module__.split(".")[1] for feature in features]


def combine_all(parts: Parts, features: Sequence[FeatureFactory]) -> Feature:
    """Return all features as one, and tell the parts what all bring: links, scopes, bearer tokens, grants and so on."""
    combined = combine([common_feature(parts), *(feature(parts) for feature in features)])
    parts.scopes.update(combined.scopes)
    parts.links.update(combined.links)
    parts.bearers.update(combined.bearers)
    parts.grants.update(combined.grants)
    parts.metadata.update(combined.metadata)
    parts.events.types.update(combined.events)
    parts.second_steps.extend(combined.second_steps)
    parts.checks.extend(combined.checks)
    return combined


def common_feature(parts: Parts) -> Feature:
    """Return the dependencies and chores that belong to no feature."""
    return Feature(
        dependencies={
            "transaction": Provide(parts.database.provide_transaction),
            "once": Provide(provide_once(parts.database), sync_to_thread=False),
        },
        chores=[AnswerRepository(parts.database).purge, parts.mails.counts.purge],
    )


def create_worker(parts: Parts, combined: Feature) -> Worker:
    """Return the worker that runs the jobs of all features, and once a day their chores."""

    async def purge(_payload: object) -> None:
        await run_chores(combined.chores)

    return Worker(parts.jobs, {**combined.jobs, PURGE: purge}, daily=[PURGE])


def create_tracing(parts: Parts) -> "Tracing | None":
    """Return the tracing, or None where no collector is set: then OpenTelemetry's packages aren't imported."""
    endpoint = parts.settings.otel_exporter_otlp_endpoint
    if not endpoint:
        return None
    from app.operations.tracing import Tracing  # noqa: PLC0415 - its packages may not be there

    tracing = Tracing(endpoint, parts.settings.otel_service_name)
    tracing.trace_statements(*parts.databases)
    return tracing


def create_metrics(parts: Parts) -> "Metrics | None":
    """Return the metrics, or None where METRICS isn't set: then Prometheus' package isn't imported."""
    if not parts.settings.metrics:
        return None
    from app.operations import metrics  # noqa: PLC0415 - only where it is needed

    return metrics.create_metrics(parts)


def lifespan(
    parts: Parts, worker: Worker, tracing: "Tracing | None"
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """Return the context that runs beside the application, and closes its parts at the end."""

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


def asgi_handler(
    application: Litestar,
    settings: Settings,
    layers: Sequence[Callable[[ASGIApp], ASGIApp]],
    observer: RequestObserver | None,
    tracing: "Tracing | None",
) -> ASGIApp:
    """Return the application's ASGI handler, wrapped in the layers that every request passes first."""
    public_url = urlsplit(settings.url)
    handler = application.asgi_handler
    for layer in layers:
        handler = layer(handler)
    handler = Edge(
        handler,
        allow=allow_headers(application),
        https=public_url.scheme == "https",
        observer=observer,
    )
    if public_url.path:
        handler = PathPrefix(handler, public_url.path)
    return tracing.trace_requests(handler) if tracing else handler


def allow_headers(application: Litestar) -> dict[str, bytes]:
    """Return the Allow header of each path, by the path's template."""
    return {
        route.path_format: with_head(", ".join(route.route_handler_map).encode())
        for route in application.routes
        if isinstance(route, HTTPRoute)
    }


def document_config(parts: Parts, combined: Feature) -> OpenAPIConfig:
    """Return what makes the OpenAPI document, which offers the code flow where people can sign in on pages."""
    sign_in_url: str = parts.metadata.get("authorization_endpoint", "")
    return openapi_config(parts.settings, combined.tags, parts.grants, parts.links, sign_in_url)


def cors_config(origins: tuple[str, ...]) -> CORSConfig | None:
    """Return the CORS configuration for pages of these origins; without origins, answers have no CORS header."""
    if not origins:
        return None
    exposed = ["ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID", "X-Total-Count"]
    return CORSConfig(allow_origins=list(origins), expose_headers=exposed)


def load_worker() -> Litestar:
    """Return the application to the server, in a worker process, which has it already if its parent built it."""
    end_with_parent()
    return globals().get("app") or __getattr__("app")


def __getattr__(name: str) -> Litestar:
    """Build `app.main:app` from the environment when an ASGI server first asks for it, and not at import."""
    if name != "app":
        raise AttributeError(name)
    try:
        application = create_app(Settings.load())
    except SettingsError as error:
        sys.exit(f"Configuration error: {error}")
    globals()["app"] = application
    return application
