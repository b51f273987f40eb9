"""Idempotency keys: a request that is sent again, such as after a lost answer, gets the first answer, and does nothing.

The answer is stored in the transaction of the first request: both commit, or neither does.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import MediaType, Request, Response
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, SkipValidation
from msgspec import Struct
from sqlalchemy.exc import DBAPIError

from app.database.failures import is_lock_timeout
from app.database.sessions import Database, Transaction, retry_on_deadlock
from app.errors import Conflict, InvalidField, InvalidFields
from app.http.idempotency.repository import AnswerRepository, KeyedRequest

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
Content = TypeVar("Content")
Perform = Callable[[Transaction | None], Awaitable[Response[Content]]]
"""Performs a request and returns its answer: in a given transaction, or with None by a single statement."""


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
    """A request that is performed once, however often it is sent with the same key."""

    def __init__(self, answers: AnswerRepository, request: Request[Any, Any, Any], key: str | None) -> None:
        self.answers = answers
        self.request = request
        self.key = key

    @retry_on_deadlock
    async def __call__(self, data: Struct, perform: Perform[Content]) -> Response[Content]:
        """Return the answer of `perform`, or the stored answer where the same request was performed before.

        Without a key, `perform` gets no transaction, which would cost further round trips. When it raises, nothing is
        stored, and the key can be used again. Raise KeyReused for another body, and RequestInProgress when the first
        request takes too long.
        """
        if self.key is None:
            return await perform(None)
        return await self._with_key(self.key, data, perform)

    async def _with_key(self, key: str, data: Struct, perform: Perform[Content]) -> Response[Content]:
        keyed = self._keyed(key, data)
        async with self.answers.database.transaction() as transaction:
            if not await self._claim(transaction, keyed):
                return await self._answered(transaction, keyed)
            response = await perform(transaction)
            status = response.status_code or self.request.route_handler.status_code
            answer = Answer(status, response.headers, response.render(response.content, MediaType.JSON))
            await self.answers.store(transaction, keyed, msgspec.msgpack.encode(answer))
        return response

    def _keyed(self, key: str, data: Struct) -> KeyedRequest:
        """Return the request with its key, which counts for one user, method and path; bodies compare as decoded."""
        path = self.request.scope["path"].rstrip("/")
        return KeyedRequest(self.request.user.id, digest([self.request.method, path, key]), digest(data))

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


OnlyOnce = NamedDependency[SkipValidation[Once]]
"""The type of a POST handler's `once`, by which it takes the header: `return await once(data, perform)`."""


def provide_once(database: Database) -> Callable[[Request[Any, Any, Any], str | None], Once]:
    """Return the function that gives a handler its `once`."""
    answers = AnswerRepository(database)

    def once(request: Request[Any, Any, Any], idempotency_key: Key = None) -> Once:
        return Once(answers, request, idempotency_key)

    return once


def digest(content: object) -> bytes:
    """Return the SHA-256 of anything that msgspec encodes."""
    return sha256(msgspec.msgpack.encode(content)).digest()
