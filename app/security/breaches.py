"""Passwords that are known from breaches, by a service that is told five characters of their hash (k-anonymity).

The service answers with the rest of every hash that it knows with this beginning, so that it doesn't learn which one
was meant. Its answers are padded, so that their length tells nothing either. "Pwned Passwords" is one such service.
"""

import asyncio
import ssl
from hashlib import sha1

import structlog
from httpx import AsyncClient, HTTPError

WITHIN_SECONDS = 1.0
MOST_CHARACTERS = 1024 * 1024
PREFIX_LENGTH = 5
# Without compression, a few bytes can't become very many.
HEADERS = {"Add-Padding": "true", "Accept-Encoding": "identity", "User-Agent": "backend-api"}

log = structlog.stdlib.get_logger("breaches")


class Breaches:
    """The passwords that a service knows."""

    def __init__(self, url: str) -> None:
        """Ask at a URL, to which the beginning of a hash is added as another part of the path."""
        self.url = url.rstrip("/")
        self.tls: ssl.SSLContext | bool = ssl.create_default_context() if url.startswith("https:") else False

    async def contain(self, password: str) -> bool:
        """Return whether a password is known; False also when the service doesn't answer within WITHIN_SECONDS.

        Then a warning is logged, without anything of the password.
        """
        digest = sha1(password.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest().upper()
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                known = await self._known(digest[:PREFIX_LENGTH])
        except (HTTPError, OSError, TimeoutError) as error:
            log.warning("breached_passwords_unknown", cause=type(error).__name__)
            return False
        return is_listed(digest[PREFIX_LENGTH:], known)

    async def _known(self, prefix: str) -> str:
        """Return the answer for a prefix: a line for each hash, with the rest of it and how often it was seen."""
        parts, length = list[str](), 0
        async with AsyncClient(verify=self.tls, headers=HEADERS, timeout=WITHIN_SECONDS) as client:
            answer = await client.send(client.build_request("GET", f"{self.url}/{prefix}"), stream=True)
            answer.raise_for_status()
            async for part in answer.aiter_text():
                length += len(part)
                if length > MOST_CHARACTERS:
                    raise OSError("The answer is too long")
                parts.append(part)
        return "".join(parts)


def is_listed(rest: str, answer: str) -> bool:
    """Return whether an answer has the rest of a hash; lines whose number is 0 are padding."""
    for line in answer.upper().splitlines():
        suffix, _, times = line.partition(":")
        if suffix.strip() == rest:
            # Not made a number, which Python refuses where it has thousands of digits.
            return times.strip().isdecimal() and times.strip(" 0") != ""
    return False
