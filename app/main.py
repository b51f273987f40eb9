"""Puts the application together; the only module that knows every part."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide

from app import logs
from app.auth.controller import AuthController
from app.auth.guard import create_guard
from app.auth.service import AuthService
from app.cli import OperatorCommands
from app.db import Database
from app.docs import openapi_config
from app.edge import Edge
from app.errors import HANDLERS
from app.health import HealthController
from app.items.controller import ItemController
from app.requests import StrictRequest, learn_query_parameters, strict
from app.security import Passwords, Tokens
from app.settings import Settings, SettingsError
from app.users.controller import UserController

if TYPE_CHECKING:
    app: Litestar

MAX_BODY_BYTES = 1024 * 1024


def create_app(settings: Settings) -> Litestar:
    """An application of its own: its engine, its pool and its queue of hashes are nobody else's."""
    logs.configure(settings.log_level, production=settings.production)
    database = Database(settings.database_url)
    passwords = Passwords()
    tokens = Tokens(secret=settings.secret_key, algorithm=settings.algorithm, issuer=settings.url)
    auth = AuthService(database, passwords, tokens, timedelta(minutes=settings.access_token_expire_minutes))

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
        yield
        await database.close()

    application = Litestar(
        route_handlers=[UserController, AuthController, ItemController, HealthController],
        dependencies={
            "session": Provide(database.read),
            "transaction": Provide(database.write),
            "database": Provide(lambda: database, sync_to_thread=False),
            "passwords": Provide(lambda: passwords, sync_to_thread=False),
            "auth": Provide(lambda: auth, sync_to_thread=False),
        },
        state=State({"database": database, "tokens": tokens}),
        on_app_init=[create_guard(settings.secret_key, settings.algorithm).on_app_init],
        guards=[strict],
        exception_handlers=HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=openapi_config(settings),
        cors_config=cors(settings.cors_origins),
        lifespan=[lifespan],
        plugins=[OperatorCommands(settings)],
        logging_config=None,
        debug=False,
    )
    learn_query_parameters(application)
    application.asgi_handler = Edge(application.asgi_handler, https=settings.url.startswith("https:"))
    return application


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
