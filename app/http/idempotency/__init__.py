"""`Idempotency-Key`: a request that is sent again, after a lost answer say, is answered again and not done again.

The answer is stored in the transaction that does the work: the two commit together, or neither does.
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
from app.http.idempotency.repository import AnswerRepository, Sent

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
Work = Callable[[Transaction | None], Awaitable[Response[Content]]]
"""Answers a request: in the transaction that it is given, or without one by a single statement."""


class Answer(Struct, array_like=True):
    """The answer as it goes into the table, in MessagePack."""

    status: int
    headers: dict[str, str]
    body: bytes

    def as_response(self) -> Response[Any]:
        """Return what the client was sent, once more."""
        return Response(self.body, status_code=self.status, headers=self.headers, media_type=MediaType.JSON)


class KeyReused(InvalidFields):
    """The key came before, with another body."""

    def __init__(self) -> None:
        super().__init__(InvalidField(f"/{HEADER}", "was used for another body"))


class RequestInProgress(Conflict):
    """The first request with that key is still being answered."""

    detail = "A request with this Idempotency-Key is still in progress"


class Once:
    """One request, which is done once however often it is sent with the same key."""

    def __init__(self, answers: AnswerRepository, request: Request[Any, Any, Any], key: str | None) -> None:
        self.answers = answers
        self.request = request
        self.key = key

    @retry_on_deadlock
    async def __call__(self, data: Struct, work: Work[Content]) -> Response[Content]:
        """Return the answer of `work`, or the one that it gave to the same request before.

        Without a key, the work is given no transaction, since one statement needs no more round trips than itself. What
        it raises isn't kept: the transaction, and the key, is rolled back. Raise KeyReused, and RequestInProgress when
        the first request takes too long.
        """
        if self.key is None:
            return await work(None)
        return await self._with_key(self.key, data, work)

    async def _with_key(self, key: str, data: Struct, work: Work[Content]) -> Response[Content]:
        sent = self._sent(key, data)
        async with self.answers.database.transaction() as transaction:
            if not await self._claim(transaction, sent):
                return await self._answered(transaction, sent)
            response = await work(transaction)
            status = response.status_code or self.request.route_handler.status_code
            answer = Answer(status, response.headers, response.render(response.content, MediaType.JSON))
            await self.answers.store(transaction, sent, msgspec.msgpack.encode(answer))
        return response

    def _sent(self, key: str, data: Struct) -> Sent:
        """A key counts for one user, method and path; two bodies are the same when they say the same."""
        path = self.request.scope["path"].rstrip("/")
        return Sent(self.request.user.id, digest([self.request.method, path, key]), digest(data))

    async def _claim(self, transaction: Transaction, sent: Sent) -> bool:
        try:
            return await self.answers.claim(transaction, sent)
        except DBAPIError as error:
            if is_lock_timeout(error):
                raise RequestInProgress from error
            raise

    async def _answered(self, transaction: Transaction, sent: Sent) -> Response[Any]:
        content, answer = await self.answers.find(transaction, sent)
        if content != sent.content:
            raise KeyReused
        return msgspec.msgpack.decode(answer, type=Answer).as_response()


OnlyOnce = NamedDependency[SkipValidation[Once]]
"""A POST handler's `once`, with which the handler takes the header: `return await once(data, work)`."""


def provide_once(database: Database) -> Callable[[Request[Any, Any, Any], str | None], Once]:
    """Return what gives handlers their `once`."""
    answers = AnswerRepository(database)

    def once(request: Request[Any, Any, Any], idempotency_key: Key = None) -> Once:
        return Once(answers, request, idempotency_key)

    return once


def digest(content: object) -> bytes:
    """Return the SHA-256 of anything that msgspec encodes."""
    return sha256(msgspec.msgpack.encode(content)).digest()
