"""Features: the parts from which each is built, and the routes, jobs and commands that each adds to the application."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any, TypeVar

import click
from litestar import Controller, Request, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.spec import Tag
from litestar.types import ASGIApp, ControllerRouterHandler, Middleware, OnAppInitHandler
from msgspec import Struct

from app.database.replicas import Replicas, Standby
from app.database.sessions import Database
from app.http.access import scoped
from app.http.grants import Grant
from app.http.paging import Cursors
from app.http.requests import SAFE_METHODS
from app.jobs.mail import MailSender, create_mailer
from app.jobs.mailboxes import MailQueue
from app.jobs.queue import JobQueue
from app.jobs.worker import JobHandler
from app.security.applications import Applications
from app.security.bearers import BearerKind
from app.security.encryption import Encryption
from app.security.events import Events
from app.security.limits import Limits
from app.security.password_policy import PasswordPolicy
from app.security.passwords import Passwords
from app.security.second_step import SecondStep
from app.security.signing.keys import SigningKeys
from app.security.signing.repository import SigningKeyRepository
from app.security.tokens import Tokens
from app.settings import Settings

Value = TypeVar("Value")
Chore = Callable[[], Awaitable[int]]
"""Deletes expired rows, and returns their number."""
Check = Callable[[Request[Any, Any, Any], Any], Awaitable[None]]
"""Raises an error when a signed-in user may not make a request; the second argument is a SignedIn of `auth`."""


class Registry:
    """The things that all features bring together: each adds its own, and reads them when all are there."""

    def __init__(self) -> None:
        self.links: dict[str, str] = {}
        """The links of all features in the header that all pages share."""
        self.scopes: dict[str, str] = {}
        """The scopes of all features, and what each is for."""
        self.applications = Applications(self.scopes)
        self.bearers: dict[str, BearerKind] = {}
        """The kinds of bearer tokens of all features, by their prefixes; access tokens are none of them."""
        self.metadata: dict[str, Any] = {}
        """What the features say of themselves in the server's metadata (RFC 8414)."""
        self.grants: dict[str, Grant] = {}
        """The grants of all features, by their `grant_type`."""
        self.second_steps: list[SecondStep] = []
        """The checks of what a sign-in by password needs, too, where an account has a second factor."""
        self.checks: list[Check] = []
        """The checks of all features that the guard makes of each request."""


class Parts(Registry):
    """The parts from which features are built: made from the settings for each application, and closed with it."""

    def __init__(self, settings: Settings, features: Iterable[str] = ()) -> None:
        """Make the parts; `features` are the names of those that the application has."""
        super().__init__()
        self.settings = settings
        self.features = frozenset(features)
        self.account_url = account_url(settings, self.features)
        pool_size = settings.worker_pool_size
        self.database = Database(settings.database_url, pool_size=pool_size, pooler=settings.database_pooler)
        standbys = [Standby(url, self.database, pool_size=pool_size) for url in settings.database_replica_urls]
        self.replicas = Replicas(self.database, standbys, primary_seconds=settings.read_from_primary_seconds)
        self.passwords = Passwords()
        self.password_policy = PasswordPolicy(settings)
        self.signing_keys = create_signing_keys(settings, self.database)
        self.tokens = create_tokens(settings, self.signing_keys)
        self.limits = Limits(settings.rate_limit_storage, secret=settings.secret_key)
        self.events = Events(self.limits)
        self.cursors = Cursors(settings.secret_key, settings.secret_key_previous)
        self.jobs = JobQueue(self.database)
        self.mails = MailQueue(self.jobs, secret=settings.secret_key)
        self.mail = create_mail_sender(settings, self.account_url)

    @property
    def databases(self) -> Sequence[Database]:
        """The primary, and then its standbys."""
        return [self.database, *self.replicas.standbys]

    @property
    def state(self) -> State:
        """The application's state, for the guard and other code that Litestar gives no dependencies."""
        return State(
            {
                "parts": self,
                "database": self.database,
                "tokens": self.tokens,
                "cursors": self.cursors,
                "trusted_proxies": [ip_network(network) for network in self.settings.trusted_proxies],
            }
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Measure the standbys and keep signing keys while the block runs; close every connection at its end."""
        try:
            async with self.replicas.watched(), self.signing_keys.kept_fresh(self.tokens.asymmetric):
                yield
        finally:
            await self.limits.close()
            await self.database.close()


def create_signing_keys(settings: Settings, database: Database) -> SigningKeys:
    """Return the asymmetric keys that sign tokens, which are made when they are first needed."""
    return SigningKeys(
        SigningKeyRepository(database),
        Encryption(settings.secret_key, settings.secret_key_previous, purpose="signing keys"),
        token_lifetime=timedelta(minutes=settings.access_token_expire_minutes),
    )


def create_tokens(settings: Settings, signing_keys: SigningKeys) -> Tokens:
    """Return the service that signs and verifies tokens."""
    return Tokens(
        secret=settings.secret_key,
        algorithm=settings.algorithm,
        issuer=settings.url,
        previous_secret=settings.secret_key_previous,
        signing_keys=signing_keys,
    )


def create_mail_sender(settings: Settings, account_url: str) -> MailSender:
    """Return the sender of mails, whose links lead below `account_url`."""
    return MailSender(create_mailer(settings), sender=settings.mail_from, url=settings.url, account_url=account_url)


def account_url(settings: Settings, features: Container[str]) -> str:
    """Return the URL below which people find the pages of their account; it is empty where there are none."""
    if settings.account_url:
        return settings.account_url.rstrip("/")
    return f"{settings.url}/account" if settings.account_pages and "pages" in features else ""


class Feature(Struct, frozen=True, kw_only=True):
    """The things that a feature adds to the application. Nothing outside the feature's folder names any of them."""

    routes: Sequence[ControllerRouterHandler] = ()
    tags: Sequence[Tag] = ()
    """The sections of the OpenAPI document."""
    links: Mapping[str, str] = {}
    """The links in the header that all pages share: their texts, by paths of this service."""
    scopes: Mapping[str, str] = {}
    """The scopes of its routes, and what each is for, as the OpenAPI document says it."""
    bearers: Mapping[str, BearerKind] = {}
    """The kinds of bearer tokens, by prefixes of PREFIX_LENGTH characters."""
    grants: Mapping[str, Grant] = {}
    """Its ways to get tokens at the token endpoint, by their `grant_type`."""
    metadata: Mapping[str, Any] = {}
    """The parts of the server's metadata (RFC 8414) that are there because of it."""
    events: Mapping[str, str] = {}
    """The types of security events that it records, and what each tells. No other is recorded."""
    second_steps: Sequence[SecondStep] = ()
    """The checks of codes, at a sign-in by password to an account with a second factor."""
    checks: Sequence[Check] = ()
    """Further checks that the guard makes of each request with a token: they raise Forbidden or Unauthorized."""
    dependencies: Mapping[str, Provide] = {}
    """The dependencies of handlers, by the names of their arguments."""
    on_app_init: Sequence[OnAppInitHandler] = ()
    middleware: Sequence[Middleware] = ()
    layers: Sequence[Callable[[ASGIApp], ASGIApp]] = ()
    """The layers around the whole application, which every request passes before its route is looked for."""
    jobs: Mapping[str, JobHandler] = {}
    """The handler of each kind of job."""
    chores: Sequence[Chore] = ()
    """The functions that run once a day."""
    commands: Sequence[click.Command] = ()
    """The commands for operators: `litestar NAME`."""


def combine(features: Sequence[Feature]) -> Feature:
    """Return one feature that has the things of all features, in their order. Raise ValueError as `union` does."""
    return Feature(
        routes=[route for feature in features for route in feature.routes],
        tags=[tag for feature in features for tag in feature.tags],
        links=union(feature.links for feature in features),
        scopes=union(feature.scopes for feature in features),
        bearers=union(feature.bearers for feature in features),
        grants=union(feature.grants for feature in features),
        metadata=union(feature.metadata for feature in features),
        events=union(feature.events for feature in features),
        second_steps=[step for feature in features for step in feature.second_steps],
        checks=[check for feature in features for check in feature.checks],
        dependencies=union(feature.dependencies for feature in features),
        on_app_init=[handler for feature in features for handler in feature.on_app_init],
        middleware=[layer for feature in features for layer in feature.middleware],
        layers=[layer for feature in features for layer in feature.layers],
        jobs=union(feature.jobs for feature in features),
        chores=[chore for feature in features for chore in feature.chores],
        commands=[command for feature in features for command in feature.commands],
    )


def union(mappings: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """Return one mapping with the entries of all. Raise ValueError when two have the same key."""
    result: dict[str, Value] = {}
    for mapping in mappings:
        if twice := result.keys() & mapping.keys():
            raise ValueError(f"Two features use the same name: {', '.join(sorted(twice))}")
        result.update(mapping)
    return result


def provide(**dependencies: object) -> dict[str, Provide]:
    """Return dependencies by name, each of which is the same object for every request."""
    return {name: Provide(constant(value), sync_to_thread=False) for name, value in dependencies.items()}


def provide_nearest(replicas: Replicas, factory: Callable[[Database], object]) -> Provide:
    """Return a dependency that `factory` makes of the database that serves a signed-in user's request.

    That is the primary, or, for a request that only reads, a standby where one is complete enough.
    """
    if not replicas.standbys:
        return Provide(constant(factory(replicas.primary)), sync_to_thread=False)
    made = {database: factory(database) for database in [replicas.primary, *replicas.standbys]}

    def choose(request: Request[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever was made
        reads = request.method in SAFE_METHODS
        return made[replicas.choose(request.user.affinity, request.user.wrote_at) if reads else replicas.primary]

    return Provide(choose, sync_to_thread=False)


def resource(
    parts: Parts, controller: type[Controller], about: str, **factories: Callable[[Database], object]
) -> Feature:
    """Return a feature of one controller, whose one tag is a section of the document that `about` describes.

    Its two scopes are named after its path: `items:read` and `items:write`.

    The factories make a repository or a service of a database, by the name of the handlers' argument.
    """
    # Litestar types these as attributes of instances alone.
    (tag,), name = vars(controller)["tags"], vars(controller)["path"].strip("/")
    return Feature(
        routes=[Router("/", route_handlers=[controller], opt=scoped(name))],
        tags=[Tag(tag, about)],
        scopes=scopes_for(name, read=f"Read {name}", write=f"Create, change and delete {name}"),
        dependencies={name: provide_nearest(parts.replicas, factory) for name, factory in factories.items()},
    )


def scopes_for(resource: str, *, read: str, write: str) -> dict[str, str]:
    """Return the two scopes of a resource, and what each is for."""
    return {f"{resource}:read": read, f"{resource}:write": write}


def constant(value: object) -> Callable[[], Any]:
    """Return a function that returns the value."""
    return lambda: value
