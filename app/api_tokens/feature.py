"""The feature of API tokens: their routes, their reader and their mail."""

from litestar.openapi.spec import Tag

from app.api_tokens.bearer import ApiTokenReader
from app.api_tokens.controller import ApiTokenController
from app.api_tokens.jobs import ApiTokenMails
from app.api_tokens.repository import ApiTokenRepository
from app.api_tokens.service import PREFIX, ApiTokenService
from app.auth.repository import CredentialRepository, SessionRepository
from app.http.feature import Feature, Parts, provide

# What each of this feature's security events tells.
EVENTS = {
    "api_token_created": "An API token was made: `token_id`, with its `scopes`",
    "api_token_ended": "Its owner ended an API token: `token_id`",
    "api_token_revoked": "Somebody who had an API token ended it: `token_id`",
}


def feature(parts: Parts) -> Feature:
    """Return the routes of API tokens, and what reads the tokens."""
    tokens, credentials = ApiTokenRepository(parts.database), CredentialRepository(parts.database)
    service = ApiTokenService(tokens, SessionRepository(parts.database), parts.mails, parts.events)
    return Feature(
        routes=[ApiTokenController],
        tags=[Tag("API tokens", "Tokens for scripts, each of which may do what its scopes say, until it is ended.")],
        bearers={PREFIX: ApiTokenReader(tokens, parts.events)},
        events=EVENTS,
        dependencies=provide(api_tokens=service),
        jobs=ApiTokenMails(credentials, parts.mail).handlers,
        chores=[tokens.purge],
    )
