"""`Idempotency-Key`: a request that is sent again, after a lost answer say, is answered again and not done again.

The answer is stored in the transaction that does the work: the two commit together, or neither does.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import wraps
from hashlib import sha256
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar, cast

import msgspec
from litestar import MediaType, Request, Response
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter
from msgspec import Struct
from sqlalchemy import ForeignKey, LargeBinary, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.dml import ReturningInsert

from app.db import Base, Database, again_after_deadlock, now
from app.errors import Conflict, InvalidField, InvalidFields

LIFETIME = timedelta(hours=24)
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
LOCK_NOT_AVAILABLE = "55P03"

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Response[Any]]])


class StoredAnswer(Base):
    """What a request with a key was answered; the answer is empty in the transaction that works on it."""

    __tablename__ = "idempotency_keys"
    __table_args__ = {}

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    # SHA-256 of method, path and key, and of the body: of one size, whatever a client sends.
    request: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary(32))
    answer: Mapped[bytes] = mapped_column(default=b"")
    created_at: Mapped[datetime] = mapped_column(index=True)


class Answer(Struct, array_like=True):
    """The answer as it goes into the table, in MessagePack."""

    status: int
    headers: dict[str, str]
    body: bytes

    def again(self) -> Response[Any]:
        """What the client was sent, once more."""
        return Response(self.body, status_code=self.status, headers=self.headers, media_type=MediaType.JSON)


class KeyReused(InvalidFields):
    """The key came before, with another body."""

    def __init__(self) -> None:
        super().__init__(InvalidField(f"/{HEADER}", "was used for another body"))


class RequestInProgress(Conflict):
    """The first request with that key is still being answered."""

    detail = "A request with this Idempotency-Key is still in progress"


def claim(insert: postgresql.Insert | sqlite.Insert) -> ReturningInsert[int]:
    """Make the row this request's, when there is none or one that is too old.

    While another transaction is about to write the same row, PostgreSQL waits for its end; SQLite lets but one
    transaction write at a time.
    """
    return insert.on_conflict_do_update(
        index_elements=["user_id", "request"],
        set_={"content": insert.excluded.content, "created_at": insert.excluded.created_at},
        where=StoredAnswer.created_at < bindparam("oldest"),
    ).returning(StoredAnswer.user_id)


CLAIM = {"postgresql": claim(postgresql.insert(StoredAnswer)), "sqlite": claim(sqlite.insert(StoredAnswer))}
THIS = (StoredAnswer.user_id == bindparam("user")) & (StoredAnswer.request == bindparam("this"))
READ = select(StoredAnswer.content, StoredAnswer.answer).where(THIS)
STORE = update(StoredAnswer).where(THIS).values(answer=bindparam("stored"))
PURGE = delete(StoredAnswer).where(StoredAnswer.created_at < bindparam("oldest")).returning(StoredAnswer.user_id)


class Attempt:
    """One sending of a request with a key, in the transaction that does its work."""

    def __init__(self, session: AsyncSession, request: Request[Any, Any, Any], key: str, data: Struct) -> None:
        """A key counts for one user, method and path; two bodies are the same when they say the same."""
        self.session = session
        path = request.scope["path"].rstrip("/")
        self.row = {"user": request.user.id, "this": digest([request.method, path, key])}
        self.content = digest(data)

    async def claim(self) -> Answer | None:
        """None when the work is this attempt's to do, else what the first one was answered.

        Raises KeyReused, and RequestInProgress when the first one takes too long.
        """
        moment = now()
        values = {
            "user_id": self.row["user"],
            "request": self.row["this"],
            "content": self.content,
            "created_at": moment,
            "oldest": moment - LIFETIME,
        }
        try:
            claimed = await self.session.execute(CLAIM[self.session.get_bind().dialect.name], values)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                raise RequestInProgress from error
            raise
        if claimed.all():
            return None
        content, answer = (await self.session.execute(READ, self.row)).one()
        if content != self.content:
            raise KeyReused
        return msgspec.msgpack.decode(answer, type=Answer)

    async def store(self, answer: Answer) -> None:
        """Keep the answer for those who send the same again."""
        await self.session.execute(STORE, {**self.row, "stored": msgspec.msgpack.encode(answer)})


def digest(content: object) -> bytes:
    """The SHA-256 of anything that msgspec encodes."""
    return sha256(msgspec.msgpack.encode(content)).digest()


def idempotent(handler: Handler) -> Handler:
    """Let clients send an Idempotency-Key to a POST handler, which takes `request`, `work` and `data`.

    The work is a session in a transaction when there is a key, and otherwise the database, on which one statement needs
    no more round trips than itself. What the handler raises isn't kept: the transaction, and the key, is rolled back.
    """

    @again_after_deadlock
    @wraps(handler)
    async def once(*args: object, idempotency_key: str | None = None, **kwargs: Any) -> Response[Any]:  # noqa: ANN401 - whatever the handler takes
        request: Request[Any, Any, Any] = kwargs["request"]
        database: Database = request.app.state.database
        if idempotency_key is None:
            return await handler(*args, work=database, **kwargs)
        async with database.transaction() as session:
            attempt = Attempt(session, request, idempotency_key, kwargs["data"])
            if answer := await attempt.claim():
                return answer.again()
            response = await handler(*args, work=session, **kwargs)
            status = response.status_code or request.route_handler.status_code
            await attempt.store(Answer(status, response.headers, response.render(response.content, MediaType.JSON)))
        return response

    # The framework reads the signature: this is how it knows, checks and documents the header.
    key = Parameter("idempotency_key", Parameter.KEYWORD_ONLY, default=None, annotation=Key)
    known = signature(handler)
    others = [parameter for parameter in known.parameters.values() if parameter.name != "work"]
    once.__signature__ = known.replace(parameters=[*others, key])  # type: ignore[attr-defined]
    once.__annotations__ = {other.name: other.annotation for other in others} | {
        key.name: Key,
        "return": known.return_annotation,
    }
    return cast("Handler", once)


async def purge_answers(database: Database) -> int:
    """Delete the answers that are no longer given again; how many there were."""
    async with database.transaction() as session:
        return len((await session.execute(PURGE, {"oldest": now() - LIFETIME})).all())
