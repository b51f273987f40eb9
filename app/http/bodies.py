"""The bodies of requests, read to their end within bounds, and those of answers, sent in parts."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from time import perf_counter

from litestar.types import HTTPResponseBodyEvent, Receive, ReceiveMessage

from app.errors import BadRequest, RequestTimeout

BODY_WITHIN_SECONDS = 25
"""The most seconds between the arrival of a request's headers and the end of its body, however slowly its parts come. A
worker that is told to stop waits longer than that."""
REST_WITHIN_SECONDS = 2
"""The seconds in which the rest of a body may come after its answer, where BODY_WITHIN_SECONDS leaves less."""
REST_BYTES = 16 * 1024 * 1024
"""The most bytes that are read of a body after its answer."""
PART_BYTES = 32 * 1024
"""The most bytes of an answer that the server is given at once. It copies them, and keeps some parts for each client
that doesn't read, but no whole body."""

NO_LENGTH = (b"0",)


class RequestBody:
    """The body of one request, on its way from the client."""

    __slots__ = ("deadline", "server_receive", "unread")

    def __init__(self, receive: Receive, headers: Mapping[bytes, Sequence[bytes]]) -> None:
        """Take the server's function, and the lines of each of the request's headers."""
        self.server_receive = receive
        self.deadline = perf_counter() + BODY_WITHIN_SECONDS
        self.unread = announced_bytes(headers)

    async def receive(self) -> ReceiveMessage:
        """Return the next message of the request. A request whose body isn't read pays nothing for the deadline.

        Raise RequestTimeout after BODY_WITHIN_SECONDS, and BadRequest when the client disconnects before the body's
        end.
        """
        if not self.unread:
            return await self.server_receive()
        try:
            async with asyncio.timeout(self.deadline - perf_counter()):
                message = await self.server_receive()
        except TimeoutError:
            raise RequestTimeout from None
        self._count(message)
        if message["type"] != "http.request":
            raise BadRequest("The body is cut off")
        return message

    async def read_rest(self) -> None:
        """Read what is unread of the body after the answer, up to REST_BYTES and for as long as a body may take.

        A server that closes a connection without having read all of it resets it, and the client may lose the answer,
        or send the next request just then.
        """
        left = REST_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self.deadline - perf_counter(), REST_WITHIN_SECONDS)):
                while self.unread and left > 0:
                    left -= self._count(await self.server_receive())

    @property
    def is_long(self) -> bool:
        """True while more may come than `read_rest` reads, so that the connection can take no further request."""
        return self.unread > REST_BYTES

    def _count(self, message: ReceiveMessage) -> int:
        """Return the size of a part of the body, and subtract it from what is unread; nothing is after the last one."""
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.unread = 0
            return 0
        size = len(message["body"])
        self.unread = max(self.unread - size, 0)
        return size


def announced_bytes(headers: Mapping[bytes, Sequence[bytes]]) -> float:
    """Return the size of the body that comes with a request; infinity where the headers don't say how large it is."""
    if b"transfer-encoding" in headers:
        return math.inf
    length = headers.get(b"content-length", NO_LENGTH)[0]
    return int(length) if length.isdigit() else 0


def parts(message: HTTPResponseBodyEvent) -> Iterator[HTTPResponseBodyEvent]:
    """Return the messages that send the body of an answer in parts of PART_BYTES."""
    body, more = message["body"], message.get("more_body", False)
    last = max(len(body) - 1, 0) // PART_BYTES * PART_BYTES
    for start in range(0, last, PART_BYTES):
        yield {"type": "http.response.body", "body": body[start : start + PART_BYTES], "more_body": True}
    yield {"type": "http.response.body", "body": body[last:], "more_body": more}
