"""The routes of the documents from which clients learn of this service by themselves."""

from typing import Any

from litestar import Controller, get
from litestar.datastructures import CacheControlHeader, ResponseHeader, State
from msgspec import convert

from app.auth.discovery.schemas import KeySet, PublicKey, ResourceMetadata, ServerMetadata
from app.http.access import LENIENT, PUBLIC
from app.http.feature import Parts
from app.http.openapi.document import TITLE
from app.http.requests import Provided
from app.security.signing.keys import CACHE_SECONDS, SigningKeys

TAGS = ["Authentication"]
FOR_ANYBODY: dict[str, Any] = {
    "opt": PUBLIC | LENIENT,
    "cache_control": CacheControlHeader(public=True, max_age=CACHE_SECONDS),
    "response_headers": [ResponseHeader(name="Access-Control-Allow-Origin", value="*")],
}
"""The options of a document that anybody may read and keep, pages of any origin too."""


class DiscoveryController(Controller):
    """The documents that are there whatever features there are."""

    path = "/.well-known"
    tags = TAGS

    @get("/jwks.json", summary="Read the public keys", **FOR_ANYBODY)
    async def public_keys(self, signing_keys: Provided[SigningKeys]) -> KeySet:
        """The keys that verify ID tokens, and access tokens where `ALGORITHM` isn't one of HMAC (RFC 7517).

        A new key is here for more than ten minutes before it signs, and an old one until its last token has expired.
        """
        return KeySet([convert(key, PublicKey) for key in await signing_keys.published()])

    @get("/oauth-authorization-server", summary="Read the server's metadata", **FOR_ANYBODY)
    async def server_metadata(self, state: State) -> ServerMetadata:
        """What a client library needs to know (RFC 8414)."""
        return describe_server(state.parts)

    @get("/oauth-protected-resource", summary="Read the resource's metadata", **FOR_ANYBODY)
    async def resource_metadata(self, state: State) -> ResourceMetadata:
        """Where a client gets tokens for this API, and with which scopes (RFC 9728)."""
        url = state.parts.settings.url
        return ResourceMetadata(
            resource=url,
            authorization_servers=[url],
            scopes_supported=list(state.parts.scopes),
            bearer_methods_supported=["header"],
            resource_name=TITLE,
            resource_documentation=f"{url}/docs",
        )


def describe_server(parts: Parts) -> ServerMetadata:
    """Return the metadata: what there is always, and what features say of themselves."""
    url = parts.settings.url
    always = {
        "issuer": url,
        "jwks_uri": f"{url}/.well-known/jwks.json",
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revoke",
        "scopes_supported": list(parts.scopes),
        "grant_types_supported": list(parts.grants),
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "service_documentation": f"{url}/docs",
        "protected_resources": [url],
    }
    return convert(always | parts.metadata, ServerMetadata)
