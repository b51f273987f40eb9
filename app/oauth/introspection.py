"""The rules by which an application with a secret learns about a token that it holds (RFC 7662)."""

from collections.abc import Mapping

from msgspec import UNSET

from app.auth.access_tokens import AccessTokens
from app.auth.caller import SignedIn
from app.auth.repository import SessionRepository
from app.auth.service import InvalidClient
from app.oauth.repository import StoredClient
from app.oauth.schemas import Introspection
from app.security.bearers import PREFIX_LENGTH, BearerReader
from app.security.tokens import REFRESH, Claims, InvalidTokenError, Tokens


class IntrospectionService:
    """The service that tells about tokens."""

    def __init__(
        self,
        access_tokens: AccessTokens,
        tokens: Tokens,
        sessions: SessionRepository,
        others: Mapping[str, BearerReader],
    ) -> None:
        """`others` are the readers of tokens that aren't access tokens, by their prefixes."""
        self.access_tokens = access_tokens
        self.tokens = tokens
        self.sessions = sessions
        self.others = others

    async def about(self, token: str, application: StoredClient) -> Introspection:
        """Return what an application may know of a token; nothing, where it isn't valid. Raise InvalidClient.

        A refresh token is its own application's affair: nobody else ever needs to be sent one.
        """
        if not application.confidential:
            raise InvalidClient
        reader = self.others.get(token[:PREFIX_LENGTH])
        try:
            if reader:
                return about_user(await reader.signed_in(reader.verify(token)), self.tokens.issuer)
            return await self.about_jwt(token, application)
        except InvalidTokenError:
            return Introspection(active=False)

    async def about_jwt(self, token: str, application: StoredClient) -> Introspection:
        """Return what there is to know of an access token, or of a refresh token of the application's own."""
        try:
            claims = await self.tokens.read_access(token)
        except InvalidTokenError:
            return await self.about_refresh(self.tokens.read(REFRESH, token), application)
        user = await self.access_tokens.signed_in(claims)
        if user is None:
            return Introspection(active=False)
        return described(claims, user.scope, "Bearer")

    async def about_refresh(self, claims: Claims, application: StoredClient) -> Introspection:
        """Return what there is to know of a refresh token, which is valid until it is spent."""
        if claims.client_id != application.client_id:
            return Introspection(active=False)
        async with self.sessions.database.transaction() as transaction:
            current = await self.sessions.current(transaction, claims.sid, claims.user_id, claims.gen)
        return described(claims, current.scope, None) if current else Introspection(active=False)


def described(claims: Claims, scope: str | None, token_type: str | None) -> Introspection:
    """Return what the claims of a valid token say; a token without a scope may do all that its user may."""
    return Introspection(
        active=True,
        scope=scope or UNSET,
        client_id=claims.client_id or UNSET,
        token_type=token_type or UNSET,
        exp=claims.exp,
        iat=claims.iat,
        sub=claims.sub,
        aud=claims.aud,
        iss=claims.iss,
        jti=claims.jti,
    )


def about_user(user: SignedIn | None, issuer: str) -> Introspection:
    """Return what there is to know of a token that is no JWT, by its user."""
    if user is None:
        return Introspection(active=False)
    return Introspection(active=True, scope=user.scope or UNSET, token_type="Bearer", sub=str(user.id), iss=issuer)  # noqa: S106 - the type
