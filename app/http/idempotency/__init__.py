"""Idempotency keys: a request that is sent again, such as after a lost answer, gets the first answer, and does nothing.

The answer is stored in the transaction of the first request: both commit, or neither does.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter
from msgspec import Struct
from sqlalchemy.exc import DBAPIError

from app.database.failures import is_lock_timeout
from app.database.repository import Read, Versioned
from app.database.sessions import Database, Transaction, retry_on_deadlock
from app.errors import Conflict, InvalidField, InvalidFields
from app.http.conditional import tagged
from app.http.idempotency.repository import AnswerRepository, KeyedRequest
from app.http.requests import Provided

HEADER = "Idempotency-Key"
Key = Annotated[
    str | None,
    HeaderParameter(
        name=HEADER,
        min_length=1,
        max_length=255,
        description="Chosen at random by the client: the same request with it is answered as at first, for 24 hours.",
        examples=[Example(value="8e03978e-40d5-43e8-bc93-6f9f39d36d7f")],
    ),
]
Create = Callable[[Transaction | None], Awaitable[Versioned[Read]]]
"""Adds the row that a request asks for: in a given transaction, or with None by a single statement or in its own."""


class Answer(Struct, array_like=True):
    """An answer in the form in which it is stored, as MessagePack."""

    status: int
    headers: dict[str, str]
    body: bytes

    def as_response(self) -> Response[Any]:
        """Return the answer to send again."""
        return Response(self.body, status_code=self.status, headers=self.headers, media_type=MediaType.JSON)


class KeyReused(InvalidFields):
    """The key was used before, with another body."""

    def __init__(self) -> None:
        super().__init__(InvalidField(f"/{HEADER}", "was used for another body"))


class RequestInProgress(Conflict):
    """The first request with that key is still being answered."""

    detail = "A request with this Idempotency-Key is still in progress"


class Once:
    """A POST request that adds one row, however often it is sent with the same key."""

    def __init__(self, answers: AnswerRepository, request: Request[Any, Any, Any], key: str | None) -> None:
        self.answers = answers
        self.request = request
        self.key = key

    @retry_on_deadlock
    async def __call__(self, data: Struct, create: Create[Read]) -> Response[Read]:
        """Return 201 with the row that `create` adds, or the stored answer where the same request came before.

        Without a key, `create` gets no transaction, which would cost further round trips. When it raises, nothing is
        stored, and the key can be used again. Raise KeyReused for another body, and RequestInProgress when the first
        request takes too long.
        """
        if self.key is None:
            return self._created(await create(None))
        return await self._with_key(self.key, data, create)

    async def _with_key(self, key: str, data: Struct, create: Create[Read]) -> Response[Read]:
        keyed = self._keyed(key, data)
        async with self.answers.database.transaction() as transaction:
            if not await self._claim(transaction, keyed):
                return await self._answered(transaction, keyed)
            response = self._created(await create(transaction))
            status = response.status_code or self.request.route_handler.status_code
            answer = Answer(status, response.headers, response.render(response.content, MediaType.JSON))
            await self.answers.store(transaction, keyed, msgspec.msgpack.encode(answer))
        return response

    def _created(self, row: Versioned[Any]) -> Response[Any]:
        response = tagged(row)
        response.headers["Location"] = f"{self._path()}/{row.read.id}"
        return response

    def _keyed(self, key: str, data: Struct) -> KeyedRequest:
        """Return the request with its key, which counts for one user, method and path; bodies compare as decoded."""
        return KeyedRequest(self.request.user.id, digest([self.request.method, self._path(), key]), digest(data))

    def _path(self) -> str:
        path: str = self.request.scope["path"]
        return path.rstrip("/")

    async def _claim(self, transaction: Transaction, keyed: KeyedRequest) -> bool:
        try:
            return await self.answers.claim(transaction, keyed)
        except DBAPIError as error:
            if is_lock_timeout(error):
                raise RequestInProgress from error
            raise

    async def _answered(self, transaction: Transaction, keyed: KeyedRequest) -> Response[Any]:
        content, answer = await self.answers.find(transaction, keyed)
        if content != keyed.content:
            raise KeyReused
        return msgspec.msgpack.decode(answer, type=Answer).as_response()


OnlyOnce = Provided[Once]
"""The type of a POST handler's `once`, by which it takes the header: `return await once(data, create)`."""


def provide_once(database: Database) -> Callable[[Request[Any, Any, Any], str | None], Once]:
    """Return the function that gives a handler its `once`."""
    answers = AnswerRepository(database)

    def once(request: Request[Any, Any, Any], idempotency_key: Key = None) -> Once:
        return Once(answers, request, idempotency_key)

    return once


def digest(content: object) -> bytes:
    """Return the SHA-256 of anything that msgspec encodes."""
    return sha256(msgspec.msgpack.encode(content)).digest()
