"""Rows, users and clients in one call each."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Self

import pytest
from httpx import ASGITransport, AsyncClient, AsyncHTTPTransport, Request, Response
from litestar import Litestar
from sqlalchemy import Connection, Engine, event

from app.auth.feature import create_auth_service
from app.auth.service import AuthService
from app.database.driver import Rows
from app.database.sessions import Database
from app.http.feature import Parts
from app.security.limits import Client
from app.security.passwords import HASHER, Passwords
from app.users.models import User

SECRET = "tests-only-2b7e151628aed2a6abf7158809cf4f3c"
PASSWORD = "correct horse battery staple"
REAL_HASHER = HASHER
"""Of the service, whose parameters the tests' own lowers."""

# What is one database's own, and what never reaches a database, is tried on one of them.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@asynccontextmanager
async def connect_to(app: Litestar) -> AsyncIterator[AsyncClient]:
    """Run an application and give a client of it; a fault of the application is a 500, as a server answers it."""
    async with app.lifespan(), client_of(app) as client:
        yield client


def client_of(app: Litestar, **headers: str) -> AsyncClient:
    """Return one more client of an application that runs, or of the instances that run in its stead."""
    # The two libraries spell ASGI's types differently.
    own = ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type] # the same protocol
    return AsyncClient(transport=app.state.get("gateway") or own, base_url="http://test", headers=headers)


class Gateway(AsyncHTTPTransport):
    """The way to a server on this machine, whatever host a request names."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    async def handle_async_request(self, request: Request) -> Response:
        """Send the request to that server, with the Host header as it is."""
        url = request.url.copy_with(host="127.0.0.1", port=self.port)
        # A new one: the client keeps the cookies of an answer for the host that its own request names.
        sent = Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return await super().handle_async_request(sent)

    async def aclose(self) -> None:
        """Stay open for the next client."""


@asynccontextmanager
async def open_database(url: str, *, pool_size: int = 20, pooler: bool = False) -> AsyncIterator[Database]:
    """Open a database without an application; its connections are closed at the end of the block."""
    database = Database(url, pool_size=pool_size, pooler=pooler)
    try:
        yield database
    finally:
        await database.close()


def parts_of(app: Litestar) -> Parts:
    """Return the objects that an application's features are built from."""
    parts: Parts = app.state.parts
    return parts


def token_of(client: AsyncClient) -> str:
    """Return the access token of a client that is signed in."""
    return client.headers["Authorization"].removeprefix("Bearer ")


async def register(client: AsyncClient, username: str, *, password: str = PASSWORD, email: str = "") -> Response:
    """Register a user and return the answer."""
    body = {"username": username, "email": email or f"{username}@example.org", "password": password}
    return await client.post("/users/", json=body)


async def log_in(client: AsyncClient, username: str, *, password: str = PASSWORD) -> Response:
    """Log in and return the answer."""
    return await client.post("/token", data={"username": username, "password": password})


async def create_item(client: AsyncClient, title: str = "Umbrella", description: str | None = None) -> Response:
    """Create an item and return the answer."""
    return await client.post("/items/", json={"title": title, "description": description})


@cache
def passwords() -> Passwords:
    """Return the service that hashes passwords as the application does."""
    return Passwords()


@cache
def hashed_password() -> str:
    """Return PASSWORD's hash, which is computed once."""
    return passwords().hasher.hash(PASSWORD)


async def add_user(app: Litestar, username: str, **columns: object) -> User:
    """Add a user whose password is PASSWORD, without the request and the hash of a registration."""
    email = f"{username}@example.org"
    values = {
        "username": username,
        "username_key": username.casefold(),
        "email": email,
        "email_key": email.casefold(),
        "hashed_password": hashed_password(),
    }
    user = User(**(values | columns))
    async with parts_of(app).database.transaction() as transaction:
        transaction.add(user)
    return user


class People:
    """A maker of users, and of clients that are signed in as them."""

    def __init__(self, app: Litestar, client: AsyncClient) -> None:
        self.app = app
        self.client = client

    async def sign_in(self, username: str, **columns: object) -> AsyncClient:
        """Add a user and return a client with their access token."""
        user = await add_user(self.app, username, **columns)
        return await self.sign_in_again(user.id)

    async def sign_in_again(self, user_id: int) -> AsyncClient:
        """Return a client with one more access token, from one more session."""
        token = await auth_service(self.app).open_session(user_id, Client("127.0.0.1", "127.0.0.1", "tests"))
        return client_of(self.app, Authorization=f"Bearer {token.access_token}")


def auth_service(app: Litestar) -> AuthService:
    """Return the service that signs people in, without the request and the hash of a login."""
    return create_auth_service(parts_of(app))


class Statements(list[str]):
    """The statements that an application sends to its database, with BEGIN and COMMIT where they are sent."""

    @classmethod
    @contextmanager
    def of(cls, app: Litestar) -> Iterator[Self]:
        """Collect the statements of the application's engine."""
        statements = cls()
        database = parts_of(app).database
        send = database.run_sql

        def before_execute(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
            # SQLite's, which the event below tells; and what a pooler makes part of each BEGIN.
            if statement != "BEGIN IMMEDIATE" and not statement.startswith("SELECT set_config("):
                statements.append(statement)

        def note(name: str) -> Callable[[Connection], None]:
            return lambda _connection: statements.append(name)

        def noted_send(sql: str, values: Sequence[object]) -> Rows:
            statements.append(sql)
            return send(sql, values)

        engine, writer = database.engine.sync_engine, database.transactional.sync_engine
        listeners: list[tuple[Engine, str, Callable[..., None]]] = [
            (engine, "before_cursor_execute", before_execute),
            (writer, "begin", note("BEGIN")),
            (writer, "commit", note("COMMIT")),
            (writer, "rollback", note("ROLLBACK")),
        ]
        for listener in listeners:
            event.listen(*listener)
        database.run_sql = noted_send
        yield statements
        database.run_sql = send
        for listener in listeners:
            event.remove(*listener)
