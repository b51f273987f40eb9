"""The routes of API tokens."""

from litestar import Controller, Response, delete, get, post
from litestar.params import FromPath, JSONBody

from app.api_tokens.schemas import ApiTokenCreate, ApiTokenCreated, ApiTokenRead
from app.api_tokens.service import ApiTokenService, NoRightToScope, TokenNotFound, TooManyTokens
from app.auth.guard import SignedInRequest, caller
from app.http.access import FRESH, token_scopes
from app.http.openapi import raises
from app.http.requests import InTransaction, Provided
from app.http.schemas import RowId

ApiTokens = Provided[ApiTokenService]


class ApiTokenController(Controller):
    """The caller's API tokens, which only their own sessions see and change."""

    path = "/users/me/tokens"
    tags = ["API tokens"]

    @post("/", opt=FRESH, summary="Create an API token", responses=raises(NoRightToScope, TooManyTokens))
    async def create_api_token(
        self,
        request: SignedInRequest,
        api_tokens: ApiTokens,
        transaction: InTransaction,
        data: JSONBody[ApiTokenCreate],
    ) -> Response[ApiTokenCreated]:
        """A token by which a script does as you what its scopes say. This answer alone shows it; a mail tells you.

        Needs a sign-in of the last minutes. A password reset ends all tokens, a changed password ends none. A user has
        at most 100.
        """
        known = token_scopes(request.app)
        made = await api_tokens.create(transaction, request.user, caller(request), data, known)
        headers = {"Cache-Control": "no-store", "Location": f"{self.path}/{made.id}"}
        return Response(made, headers=headers)

    @get("/", summary="List your API tokens")
    async def list_api_tokens(self, request: SignedInRequest, api_tokens: ApiTokens) -> list[ApiTokenRead]:
        """Your tokens, newest first, without the tokens themselves. Expired ones stay for 30 days."""
        return await api_tokens.all(request.user.id)

    @delete("/{token_id:int}", summary="End an API token", responses=raises(TokenNotFound))
    async def end_api_token(
        self, request: SignedInRequest, api_tokens: ApiTokens, transaction: InTransaction, token_id: FromPath[RowId]
    ) -> None:
        """It fails at its next use."""
        await api_tokens.end(transaction, caller(request), token_id)
