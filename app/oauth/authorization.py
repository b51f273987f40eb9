"""The rules of /authorize: which requests are good, and what a person has to do before the answer goes back."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NoReturn

import jwt
from msgspec import Struct

from app.auth.caller import Caller, SignedIn
from app.auth.repository import CredentialRepository
from app.database.models import now
from app.database.sessions import retry_on_deadlock
from app.errors import BadRequest
from app.oauth.clients import CODE_GRANT
from app.oauth.codes.repository import CodeRepository
from app.oauth.grants import GrantService
from app.oauth.redirects import answer_to, is_registered
from app.oauth.repository import ClientRepository, GrantRepository, StoredClient
from app.security.id_tokens import IdTokens
from app.security.limits import Client
from app.security.random_tokens import base62, digest

CODE_LENGTH = 43
CODE_LIFETIME = timedelta(seconds=60)
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
MAX_NONCE = 1000
PROMPTS = {"none", "login", "consent"}
SECONDS = re.compile(r"[0-9]{1,9}\Z")
SINCE = "auth_after"
"""The parameter by which /authorize tells itself since when a person has had to sign in again."""
MOMENT = re.compile(r"[0-9]{1,11}\Z")
CLOCKS = timedelta(minutes=1)
"""The most by which the clocks of two machines of this service differ."""
SOMEBODY_ELSE = "Somebody else is signed in"


class InvalidApplication(BadRequest):
    """The application or the redirect URI isn't known: no answer may go back (RFC 6749, section 4.1.2.1)."""

    detail = "The application that sent you here isn't known, or asks for an answer at an address that isn't its own"


class Refusal(Exception):
    """The request is refused; the answer goes back to the application."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class Step(StrEnum):
    """The thing that a person has to do next."""

    SIGN_IN = "sign in"
    CONSENT = "consent"
    NOTHING = "nothing"


class AuthorizationRequest(Struct, frozen=True):
    """A request that an application may make."""

    client: StoredClient
    redirect_uri: str
    state: str | None
    scope: str
    challenge: str
    nonce: str | None
    prompt: frozenset[str]
    max_age: int | None
    since: datetime | None
    """When a person was asked to sign in again: an earlier sign-in isn't enough."""
    subject: str | None
    """The only person for whom the application wants an answer; None for whoever is signed in."""
    hint: str
    """The ID token that says so."""
    pairs: Sequence[tuple[str, str]]
    """The parameters, as they came."""


class AuthorizationService:
    """The service that answers requests for authorization (RFC 6749, section 4.1; OpenID Connect Core, section 3.1)."""

    def __init__(
        self,
        clients: ClientRepository,
        grants: GrantRepository,
        codes: CodeRepository,
        credentials: CredentialRepository,
        given: GrantService,
        id_tokens: IdTokens,
        *,
        issuer: str,
    ) -> None:
        self.database = clients.database
        self.clients = clients
        self.grants = grants
        self.codes = codes
        self.credentials = credentials
        self.given = given
        self.id_tokens = id_tokens
        self.issuer = issuer

    async def read(self, pairs: Sequence[tuple[str, str]]) -> AuthorizationRequest:
        """Return the request that parameters make; an empty one counts as absent.

        Raise InvalidApplication, after which nobody may be redirected, and Refusal.
        """
        given = {name: value for name, value in pairs if value}
        count = Counter(name for name, value in pairs if value)
        client = await self.clients.by_client_id(given.get("client_id", ""))
        redirect_uri = given.get("redirect_uri", "")
        if client is None or count["client_id"] > 1 or count["redirect_uri"] > 1:
            raise InvalidApplication
        if not is_registered(redirect_uri, client.redirect_uris.split()):
            raise InvalidApplication
        state = given.get("state") if count["state"] == 1 else None
        reader = RequestReader(self, client, redirect_uri, state)
        if any(times > 1 for times in count.values()):
            reader.refuse("invalid_request", "A parameter is repeated")
        return reader.read(given, pairs)

    async def next_step(self, request: AuthorizationRequest, user: SignedIn | None) -> Step:
        """Return what a person has to do before the answer.

        Raise Refusal where the application wants no question, and for somebody else than the request is for.
        """
        if user and await self.must_be_another(request, user):
            raise self.refusal(request, "login_required", SOMEBODY_ELSE)
        if user is None or self.must_sign_in_again(request, user):
            step, error = Step.SIGN_IN, "login_required"
        elif await self.needs_consent(request, user):
            step, error = Step.CONSENT, "consent_required"
        else:
            return Step.NOTHING
        if "none" in request.prompt:
            raise self.refusal(request, error)
        return step

    async def must_be_another(self, request: AuthorizationRequest, user: SignedIn) -> bool:
        """Return whether a request is for another person, by an ID token that its application has once been issued.

        With any other hint a person is asked first, so that nobody who makes one up is told who is signed in.
        """
        is_other = request.subject not in {None, str(user.id)}
        return is_other and await self.id_tokens.has_issued(request.hint, request.client.client_id)

    def must_sign_in_again(self, request: AuthorizationRequest, user: SignedIn) -> bool:
        """Return whether a person's sign-in is too old for a request."""
        if user.authenticated_at is None:
            return True
        proved = user.authenticated_at.replace(microsecond=0)
        if request.since is not None and proved < request.since:
            return True
        if "login" in request.prompt:
            return True
        return request.max_age is not None and proved < now() - timedelta(seconds=request.max_age)

    async def needs_consent(self, request: AuthorizationRequest, user: SignedIn) -> bool:
        """Return whether a person has to be asked.

        The operator's own applications needn't ask, nor do those that ask for no more than was granted before.
        """
        if "consent" in request.prompt:
            return True
        if request.client.first_party:
            return False
        grant = await self.grants.of_person(user.id, request.client.id)
        return grant is None or not set(request.scope.split()) <= set(grant.scope.split())

    def after_sign_in(self, request: AuthorizationRequest) -> list[tuple[str, str]]:
        """Return the parameters with which the request comes again when the person has signed in.

        It doesn't ask for that again; but the sign-in must be as late as this moment.
        """
        prompt = " ".join(sorted(request.prompt - {"login"}))
        kept = [(name, value) for name, value in request.pairs if name not in {"prompt", "max_age", SINCE}]
        asked_again = "login" in request.prompt or request.max_age is not None
        moment = now() if asked_again else request.since
        since = [(SINCE, str(int(moment.timestamp())))] if moment else []
        return [*kept, *([("prompt", prompt)] if prompt else []), *since]

    @retry_on_deadlock
    async def approve(self, request: AuthorizationRequest, user: SignedIn, client: Client) -> str:
        """Grant a request, and return where the answer goes. Raise Refusal when the person's account is disabled.

        The grant has the request's scopes from now on, beside those that it had. Raise ClientNotFound and SessionEnded,
        too, and Refusal as well for somebody else than the request is for, whoever has made its hint.
        """
        if request.subject not in {None, str(user.id)}:
            raise self.refusal(request, "login_required", SOMEBODY_ELSE)
        code, moment = base62(CODE_LENGTH), now()
        async with self.database.transaction() as transaction:
            if not await self.credentials.lock_active(transaction, user.id, None):
                raise self.refusal(request, "access_denied")
            grant_id = await self.given.give(
                transaction, Caller(user.id, user.session_id, client), request.client, request.scope
            )
            columns = {
                "digest": digest(code),
                "grant_id": grant_id,
                "approved_in": user.session_id,
                "redirect_uri": request.redirect_uri,
                "challenge": request.challenge,
                "scope": request.scope,
                "nonce": request.nonce,
                "amr": user.amr,
                "authenticated_at": user.authenticated_at,
                "expires_at": moment + CODE_LIFETIME,
            }
            await self.codes.create(transaction, columns)
        return answer_to(request.redirect_uri, {"code": code, "state": request.state, "iss": self.issuer})

    def refusal(self, request: AuthorizationRequest, error: str, description: str | None = None) -> Refusal:
        """Return the answer that refuses a request, to raise it."""
        return refusal(request.redirect_uri, request.state, self.issuer, error, description)


class RequestReader:
    """The reader of one request, whose application and redirect URI are good: every error goes back to it."""

    def __init__(
        self, service: AuthorizationService, client: StoredClient, redirect_uri: str, state: str | None
    ) -> None:
        self.service = service
        self.client = client
        self.redirect_uri = redirect_uri
        self.state = state

    def read(self, given: dict[str, str], pairs: Sequence[tuple[str, str]]) -> AuthorizationRequest:
        """Return the request. Raise Refusal."""
        self.check_kind(given)
        return AuthorizationRequest(
            client=self.client,
            redirect_uri=self.redirect_uri,
            state=self.state,
            scope=self.scope(given),
            challenge=self.challenge(given),
            nonce=self.nonce(given),
            prompt=self.prompt(given),
            max_age=self.seconds(given, "max_age"),
            since=self.moment(given),
            subject=self.subject(given),
            hint=given.get("id_token_hint", ""),
            pairs=pairs,
        )

    def refuse(self, error: str, description: str | None = None) -> NoReturn:
        """Raise Refusal."""
        raise refusal(self.redirect_uri, self.state, self.service.issuer, error, description)

    def check_kind(self, given: dict[str, str]) -> None:
        """Refuse what isn't the code flow, with the request's own parameters, for this service."""
        for name in ("request", "request_uri"):
            if name in given:
                self.refuse(f"{name}_not_supported", f"{name} is not supported")
        if "response_type" not in given:
            self.refuse("invalid_request", "response_type is required")
        if given["response_type"] != "code":
            self.refuse("unsupported_response_type", "response_type must be code")
        if given.get("response_mode", "query") != "query":
            self.refuse("invalid_request", "response_mode must be query")
        if not self.client.may(CODE_GRANT):
            self.refuse("unauthorized_client", "The client may not use this grant")
        if given.get("resource", self.service.issuer).rstrip("/") != self.service.issuer.rstrip("/"):
            self.refuse("invalid_target", "The resource must be this service")

    def scope(self, given: dict[str, str]) -> str:
        """Return the scopes that are asked for, each once; without any, the application's."""
        scopes = list(dict.fromkeys(given.get("scope", self.client.scope).split(" ")))
        if not set(scopes) <= set(self.client.scope.split()):
            self.refuse("invalid_scope", "A scope is unknown, or more than the client may ask for")
        return " ".join(scopes)

    def challenge(self, given: dict[str, str]) -> str:
        """Return the PKCE challenge (RFC 7636), without which there is no code; `plain` is no method."""
        challenge = given.get("code_challenge", "")
        if given.get("code_challenge_method") != "S256" or not CHALLENGE.match(challenge):
            self.refuse("invalid_request", "code_challenge is required, with code_challenge_method S256")
        return challenge

    def nonce(self, given: dict[str, str]) -> str | None:
        """Return what the ID token repeats."""
        nonce = given.get("nonce")
        if nonce is not None and (len(nonce) > MAX_NONCE or "\0" in nonce):
            self.refuse("invalid_request", f"nonce must have at most {MAX_NONCE} characters")
        return nonce

    def subject(self, given: dict[str, str]) -> str | None:
        """Return the person of the ID token that is sent along (OpenID Connect Core, section 3.1.2.2).

        It may be an old one, whose key is gone: it gives no right, and keeps others from an answer.
        """
        if "id_token_hint" not in given:
            return None
        try:
            claims = jwt.decode(given["id_token_hint"], options={"verify_signature": False})
        except jwt.InvalidTokenError:
            claims = {}
        if claims.get("iss") != self.service.issuer or "sub" not in claims:
            self.refuse("invalid_request", "id_token_hint must be an ID token of this service")
        return str(claims["sub"])

    def prompt(self, given: dict[str, str]) -> frozenset[str]:
        """Return what the application wants the person to be asked."""
        prompt = frozenset(given["prompt"].split(" ") if "prompt" in given else ())
        if not prompt <= PROMPTS or ("none" in prompt and len(prompt) > 1):
            self.refuse("invalid_request", "prompt must be none, or login and consent")
        return prompt

    def seconds(self, given: dict[str, str], name: str) -> int | None:
        """Return a number of seconds; None where the parameter is absent."""
        if name not in given:
            return None
        if not SECONDS.match(given[name]):
            self.refuse("invalid_request", f"{name} must be a number of seconds")
        return int(given[name])

    def moment(self, given: dict[str, str]) -> datetime | None:
        """Return since when the person has had to sign in again; None where they needn't.

        Anybody can send the parameter, and so it never makes a request ask for less. A time that this service can't
        have set is passed over, as unknown parameters are (RFC 6749, section 3.1).
        """
        if not MOMENT.match(given.get(SINCE, "")):
            return None
        moment = datetime.fromtimestamp(int(given[SINCE]), UTC)
        return moment if moment <= now() + CLOCKS else None


def refusal(redirect_uri: str, state: str | None, issuer: str, error: str, description: str | None) -> Refusal:
    """Return the answer that refuses a request (RFC 6749, section 4.1.2.1; RFC 9207)."""
    answer = {"error": error, "error_description": description, "state": state, "iss": issuer}
    return Refusal(answer_to(redirect_uri, answer))
