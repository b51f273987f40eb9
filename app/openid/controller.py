"""The routes of OpenID Connect."""

from litestar import Controller, get, post
from litestar.datastructures import State

from app.auth.discovery.controller import FOR_ANYBODY, describe_server
from app.auth.discovery.schemas import ServerMetadata
from app.auth.guard import SignedInRequest
from app.http.access import LENIENT, needs_scope
from app.http.requests import Provided
from app.openid.schemas import UserInfo
from app.openid.service import PersonService

People = Provided[PersonService]


class ProviderController(Controller):
    """What an application knows this service by."""

    path = "/.well-known/openid-configuration"
    tags = ["Authentication"]

    @get("/", summary="Read the OpenID provider's metadata", **FOR_ANYBODY)
    async def provider_metadata(self, state: State) -> ServerMetadata:
        """The same as the server's metadata, where clients of OpenID Connect look for it (Discovery 1.0, section 4)."""
        return describe_server(state.parts)


class UserInfoController(Controller):
    """What an application learns about the person of its token."""

    path = "/userinfo"
    tags = ["Authentication"]
    opt = LENIENT | needs_scope("openid")

    @get("/", summary="Learn who somebody is")
    async def user_info(self, request: SignedInRequest, people: People) -> UserInfo:
        """The claims that the scopes `profile` and `email` give, beside `sub` (OpenID Connect Core, section 5.3)."""
        return await people.about(request.user)

    @post("/", status_code=200, summary="Learn who somebody is, by POST")
    async def post_user_info(self, request: SignedInRequest, people: People) -> UserInfo:
        """The same as by GET; the token is taken from the `Authorization` header alone."""
        return await people.about(request.user)
