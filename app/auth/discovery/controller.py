"""The routes of the documents from which clients learn of this service by themselves."""

from litestar import Controller, get
from litestar.datastructures import CacheControlHeader, ResponseHeader
from msgspec import convert

from app.auth.discovery.schemas import KeySet, PublicKey
from app.http.access import LENIENT, PUBLIC
from app.http.requests import Provided
from app.security.signing.keys import CACHE_SECONDS, SigningKeys


class DiscoveryController(Controller):
    """The documents, which anybody may read, pages of any origin too."""

    path = "/.well-known"
    tags = ["Authentication"]
    opt = PUBLIC | LENIENT
    cache_control = CacheControlHeader(public=True, max_age=CACHE_SECONDS)
    response_headers = [ResponseHeader(name="Access-Control-Allow-Origin", value="*")]

    @get("/jwks.json", summary="Read the public keys")
    async def public_keys(self, signing_keys: Provided[SigningKeys]) -> KeySet:
        """The keys that verify ID tokens, and access tokens where `ALGORITHM` isn't one of HMAC (RFC 7517).

        A new key is here for more than ten minutes before it signs, and an old one until its last token has expired.
        """
        return KeySet([convert(key, PublicKey) for key in await signing_keys.published()])
