"""The limit: the measured routes as a bare ASGI callable on asyncpg, PyJWT and msgspec, with no framework.

It makes the project's checks (token, session and user, bounds of the input) with the fewest round trips and
the least code, and does nothing else: no request ids, no logs, no security headers.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias
from urllib.parse import parse_qsl

import asyncpg
import jwt
import msgspec
from argon2.exceptions import VerifyMismatchError

from benchmarks import tokens
from benchmarks.passwords import hasher

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
# Only asyncpg's stubs make these classes generic.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Querier: TypeAlias = "Pool | Connection"
Handler = Callable[[Pool, Scope, Receive], Awaitable[tuple[int, bytes]]]

USER = """
SELECT u.id, u.username, u.email, u.is_active, u.is_superuser, u.email_verified, u.created_at
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = $1 AND u.id = $2 AND s.expires_at > now() AND u.is_active"""
PAGE = """
SELECT id, title, description, owner_id, created_at, updated_at
FROM items WHERE owner_id = $1 ORDER BY id DESC LIMIT $2"""
CREATE = """
INSERT INTO items (title, description, search_text, owner_id, created_at, updated_at, version)
VALUES ($1, $2, $3, $4, $5, $5, 1)
RETURNING id, title, description, owner_id, created_at, updated_at"""
CREDENTIALS = """
SELECT id, hashed_password FROM users
WHERE is_active AND (username_key = lower($1) OR email_key = lower($1))"""
SIGN_IN = """
INSERT INTO sessions (id, user_id, device, address, generation, created_at, last_used_at, refreshed_at, expires_at)
VALUES ($1, $2, '', '', 0, $3, $3, $3, $4)"""
MAX_PAGE = 100

encoder = msgspec.json.Encoder()


class Refused(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int) -> None:
        self.status = status


class UserRead(msgspec.Struct):
    id: int
    username: str
    email: str
    is_active: bool
    is_superuser: bool
    email_verified: bool
    created_at: datetime


class ItemCreate(msgspec.Struct, forbid_unknown_fields=True):
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    description: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


class ItemRead(msgspec.Struct):
    id: int
    title: str
    description: str | None
    owner_id: int
    created_at: datetime
    updated_at: datetime


item_decoder = msgspec.json.Decoder(ItemCreate)


async def read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def verified(scope: Scope) -> tuple[int, int]:
    """Return the ids of the session and the user from the bearer token."""
    scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401)
    try:
        return tokens.verify(token)
    except jwt.InvalidTokenError as error:
        raise Refused(401) from error


async def signed_in(querier: Querier, scope: Scope) -> asyncpg.Record:
    row = await querier.fetchrow(USER, *verified(scope))
    if row is None:
        raise Refused(401)
    return row


async def read_me(pool: Pool, scope: Scope, _: Receive) -> tuple[int, bytes]:
    return 200, encoder.encode(UserRead(*await signed_in(pool, scope)))


async def list_items(pool: Pool, scope: Scope, _: Receive) -> tuple[int, bytes]:
    async with pool.acquire() as connection:
        user = await signed_in(connection, scope)
        rows = await connection.fetch(PAGE, user["id"], page_size(scope))
    return 200, encoder.encode([ItemRead(*row) for row in rows])


def page_size(scope: Scope) -> int:
    query = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
    try:
        limit = msgspec.convert(dict(query).get("limit", "50"), int, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(422) from error
    if not 1 <= limit <= MAX_PAGE or any(name != "limit" for name, _ in query) or len(query) > 1:
        raise Refused(422)
    return limit


async def create_item(pool: Pool, scope: Scope, receive: Receive) -> tuple[int, bytes]:
    async with pool.acquire() as connection:
        user = await signed_in(connection, scope)
        try:
            item = item_decoder.decode(await read_body(receive))
        except msgspec.ValidationError as error:
            raise Refused(422) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400) from error
        values = item.title, item.description, search_text(item), user["id"], datetime.now(UTC)
        [row] = await connection.fetch(CREATE, *values)
    return 201, encoder.encode(ItemRead(*row))


def search_text(item: ItemCreate) -> str:
    return "\n".join(text.casefold() for text in (item.title, item.description) if text)


async def log_in(pool: Pool, _: Scope, receive: Receive) -> tuple[int, bytes]:
    form = dict(parse_qsl((await read_body(receive)).decode()))
    row = await pool.fetchrow(CREDENTIALS, form.get("username", ""))
    if row is None:
        raise Refused(401)
    try:
        await asyncio.to_thread(hasher.verify, row["hashed_password"], form.get("password", ""))
    except VerifyMismatchError as error:
        raise Refused(401) from error
    session_id, now = secrets.randbits(63), datetime.now(UTC)
    await pool.execute(SIGN_IN, session_id, row["id"], now, now + timedelta(days=30))
    token = tokens.issue(user_id=row["id"], session_id=session_id)
    return 200, encoder.encode({"access_token": token, "token_type": "bearer", "expires_in": tokens.LIFETIME})


async def live(_: Pool, __: Scope, ___: Receive) -> tuple[int, bytes]:
    return 200, b'{"status":"ok"}'


ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/users/me"): read_me,
    ("GET", "/items"): list_items,
    ("POST", "/items"): create_item,
    ("POST", "/token"): log_in,
    ("GET", "/health/live"): live,
}


class Limit:
    """The ASGI application."""

    pool: Pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        status, body = await self.respond(scope, receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def respond(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        handler = ROUTES.get((scope["method"], scope["path"].rstrip("/")))
        if handler is None:
            return 404, b'{"detail":"Not Found"}'
        try:
            return await handler(self.pool, scope, receive)
        except Refused as refused:
            return refused.status, b'{"detail":"Refused"}'

    async def lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep connections to the database while the block runs."""
        # The default reset is one more round trip per request, and nothing here leaves state on a connection.
        self.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=16, reset=keep)
        try:
            yield
        finally:
            await self.pool.close()


async def keep(_: object) -> None:
    """Leave a connection as it is when it returns to the pool."""


app = Limit()
