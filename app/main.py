"""Puts the application together; the only module that knows every part."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.routes import HTTPRoute

from app import logs
from app.auth.controller import CredentialController, OAuthController
from app.auth.credentials import CHANGED_MAIL, RESET_MAIL, CredentialService
from app.auth.guard import create_guard
from app.auth.jobs import CredentialMails, purge_sessions
from app.auth.marks import Marks
from app.auth.service import AuthService, Lifetimes, end_all_sessions
from app.cli import JobCommands, OperatorCommands
from app.db import Database
from app.edge import Edge, Prefix, with_head
from app.errors import HANDLERS
from app.health import HealthController, report
from app.idempotency import purge_answers
from app.items.controller import ItemController
from app.jobs import Handler, Worker
from app.limits import Limits
from app.mail import Postman, create_mailer
from app.metrics import Metrics, read_metrics
from app.openapi import openapi_config
from app.paging import Cursors
from app.policy import PasswordPolicy
from app.replicas import Replicas, Standby
from app.requests import StrictRequest, learn_query_parameters, strict
from app.security import Passwords, Tokens
from app.settings import Settings, SettingsError
from app.users.controller import UserController, VerificationController
from app.users.jobs import AccountMails
from app.users.service import ADDRESS_CHANGED_MAIL, VERIFICATION_MAIL, UserService

if TYPE_CHECKING:
    from app.tracing import Tracing

    app: Litestar

PURGE = "purge"
MAX_BODY_BYTES = 1024 * 1024


def create_app(settings: Settings) -> Litestar:
    """An application of its own: its engine, its pool and its queue of hashes are nobody else's."""
    tracing = create_tracing(settings)
    logs.configure(settings.log_level, production=settings.production, extras=tracing.log_processors if tracing else ())
    database = Database(settings.database_url, pool_size=settings.worker_pool_size, pooler=settings.database_pooler)
    standbys = [Standby(url, database, pool_size=settings.worker_pool_size) for url in settings.database_replica_urls]
    replicas = Replicas(database, standbys, primary_seconds=settings.read_from_primary_seconds)
    if tracing:
        tracing.trace(database, *standbys)
    tokens = Tokens(
        secret=settings.secret_key,
        algorithm=settings.algorithm,
        issuer=settings.url,
        previous_secret=settings.secret_key_previous,
    )
    limits = Limits(settings.rate_limit_storage, secret=settings.secret_key)
    users = UserService(
        database,
        Passwords(),
        tokens,
        limits,
        PasswordPolicy(settings),
        end_all_sessions,
        open_to_all=settings.registration == "open",
    )
    credentials = CredentialService(users)
    metrics = (
        Metrics(database, users.passwords, replicas, directory=settings.prometheus_multiproc_dir)
        if settings.metrics
        else None
    )
    count_login = metrics.count_login if metrics else lambda _outcome: None
    auth = AuthService(database, users.passwords, tokens, limits, lifetimes(settings), count_login)
    worker = Worker(database, job_handlers(database, tokens, settings), daily=[PURGE])

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
        try:
            await report(database)
            async with replicas.watched(), worker.in_background() if settings.jobs_in_process else nullcontext():
                yield
        finally:
            await limits.close()
            await database.close()
            if tracing:
                await tracing.close()

    application = Litestar(
        route_handlers=[
            UserController,
            VerificationController,
            OAuthController,
            CredentialController,
            ItemController,
            HealthController,
            *([read_metrics] if metrics else []),
        ],
        dependencies={
            "session": Provide(database.read),
            "transaction": Provide(database.write),
            "database": Provide(lambda: database, sync_to_thread=False),
            "reader": Provide(replicas.reader if replicas.standbys else lambda: database, sync_to_thread=False),
            "limits": Provide(lambda: limits, sync_to_thread=False),
            "users": Provide(lambda: users, sync_to_thread=False),
            "auth": Provide(lambda: auth, sync_to_thread=False),
            "credentials": Provide(lambda: credentials, sync_to_thread=False),
            "metrics": Provide(lambda: metrics, sync_to_thread=False),
        },
        state=State(
            {
                "database": database,
                "tokens": tokens,
                "cursors": Cursors(settings.secret_key, settings.secret_key_previous),
                "trusted_proxies": trusted_proxies(settings),
                "drain_file": settings.drain_file,
            }
        ),
        on_app_init=[create_guard(settings.secret_key, settings.algorithm).on_app_init],
        middleware=[DefineMiddleware(Marks, database=database)] if replicas.standbys else [],
        before_request=strict,
        exception_handlers=HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=openapi_config(settings),
        cors_config=cors(settings.cors_origins),
        lifespan=[lifespan],
        plugins=[OperatorCommands(database, users), JobCommands(worker)],
        logging_config=None,
        debug=False,
    )
    learn_query_parameters(application)
    public = urlsplit(settings.url)
    application.asgi_handler = Edge(
        application.asgi_handler, allow=methods_of_paths(application), https=public.scheme == "https", metrics=metrics
    )
    if public.path:
        application.asgi_handler = Prefix(application.asgi_handler, public.path)
    if tracing:
        application.asgi_handler = tracing.requests(application.asgi_handler)
    return application


def create_tracing(settings: Settings) -> "Tracing | None":
    """What makes and sends spans, where there is a collector for them; else its packages aren't even imported."""
    if not settings.otel_exporter_otlp_endpoint:
        return None
    from app.tracing import Tracing  # noqa: PLC0415 - its packages may not be there

    return Tracing(settings.otel_exporter_otlp_endpoint, settings.otel_service_name)


def methods_of_paths(application: Litestar) -> dict[str, bytes]:
    """What OPTIONS answers for each path's template."""
    return {
        route.path_format: with_head(", ".join(route.route_handler_map).encode())
        for route in application.routes
        if isinstance(route, HTTPRoute)
    }


def lifetimes(settings: Settings) -> Lifetimes:
    """How long tokens and sessions last, as set."""
    return Lifetimes(
        access=timedelta(minutes=settings.access_token_expire_minutes),
        idle=timedelta(days=settings.refresh_token_idle_days),
        absolute=timedelta(days=settings.refresh_token_absolute_days),
    )


def job_handlers(database: Database, tokens: Tokens, settings: Settings) -> dict[str, Handler]:
    """What each kind of job does; a kind is named beside the service that enqueues it."""
    postman = Postman(create_mailer(settings), sender=settings.mail_from, url=settings.url)
    accounts = AccountMails(database, postman, tokens)
    credentials = CredentialMails(database, postman, tokens)

    async def purge(_payload: dict[str, str | int]) -> None:
        await purge_sessions(database)
        await purge_answers(database)

    return {
        VERIFICATION_MAIL: accounts.verify_address,
        ADDRESS_CHANGED_MAIL: accounts.address_changed,
        RESET_MAIL: credentials.reset_password,
        CHANGED_MAIL: credentials.password_changed,
        PURGE: purge,
    }


def trusted_proxies(settings: Settings) -> list[IPv4Network | IPv6Network]:
    """Whose X-Forwarded-For is believed."""
    return [ip_network(network) for network in settings.trusted_proxies]


def cors(origins: tuple[str, ...]) -> CORSConfig | None:
    """Browsers of these origins may call; none, no CORS header at all."""
    if not origins:
        return None
    exposed = ["ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID", "X-Total-Count"]
    return CORSConfig(allow_origins=list(origins), expose_headers=exposed)


def __getattr__(name: str) -> Litestar:
    """`app.main:app`, for any ASGI server: built from the environment at its first use, not at import."""
    if name != "app":
        raise AttributeError(name)
    try:
        application = create_app(Settings.load())
    except SettingsError as error:
        sys.exit(f"Configuration error: {error}")
    globals()["app"] = application
    return application
