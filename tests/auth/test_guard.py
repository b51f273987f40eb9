"""The guard of the routes: the 401 answers, and which routes are public."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta

import jwt
import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import delete, update

from app.auth.models import LoginSession
from app.database.models import now
from app.database.sessions import Database
from app.security.tokens import ACCESS, REFRESH, Claims, Tokens
from app.users.models import User
from tests.factories import SECRET, Statements, on_sqlite, token_of
from tests.problems import assert_problem

BARE = "Bearer"
INVALID = 'Bearer error="invalid_token", error_description="The access token is invalid, expired or revoked"'

# What answers whoever asks, and nothing else does.
PUBLIC = {
    "GET /",
    "GET /.well-known/change-password",
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /.well-known/oauth-protected-resource",
    "GET /.well-known/openid-configuration",
    "GET /docs",
    "GET /docs/assets/{version}/{name}",
    "GET /docs/oauth2-redirect.html",
    "GET /docs/scalar",
    "GET /health/live",
    "GET /health/ready",
    "GET /openapi.json",
    "POST /device_authorization",
    "POST /email-undo/confirm",
    "POST /email-verification/confirm",
    "POST /introspect",
    "POST /passkeys/options",
    "POST /password-reset",
    "POST /password-reset/confirm",
    "POST /revoke",
    "POST /token",
    "POST /users",
}


def assert_not_authenticated(answer: Response) -> None:
    """Check for the 401 of a request without a bearer token."""
    assert_problem(answer, 401, "Not authenticated")
    assert answer.headers["WWW-Authenticate"] == BARE
    assert answer.headers["Cache-Control"] == "private, no-cache"


def assert_refused(answer: Response) -> None:
    """Check for the 401 of a bearer token that is worth nothing."""
    assert_problem(answer, 401, "Could not validate credentials")
    assert answer.headers["WWW-Authenticate"] == INVALID
    assert answer.headers["Cache-Control"] == "private, no-cache"


async def me(client: AsyncClient, *authorization: str, cookie: str = "") -> Response:
    """Ask about the caller, with these headers instead of the client's own, and return the answer."""
    lines = [(b"Authorization", line.encode("latin-1")) for line in authorization] + [(b"Cookie", cookie.encode())]
    client.headers.pop("Authorization", None)
    return await client.get("/users/me", headers=lines)


def claims_of(tokens: Tokens, client: AsyncClient) -> Claims:
    """Return the claims of a signed-in client's token."""
    return tokens.read(ACCESS, token_of(client))


def forged(
    client: AsyncClient,
    claims: Mapping[str, object] | None = None,
    *,
    key: str = SECRET,
    header: Mapping[str, object] | None = None,
) -> str:
    """Return the client's token with other claims or another header, signed anew."""
    genuine = token_of(client)
    headers = {**jwt.get_unverified_header(genuine), **(header or {})}
    payload = {**jwt.decode(genuine, options={"verify_signature": False}), **(claims or {})}
    return jwt.encode(payload, key, algorithm=str(headers["alg"]), headers=headers)


# No bearer token ------------------------------------------------------------------------------------------------------


async def test_without_a_header_nobody_is_authenticated(client: AsyncClient) -> None:
    """The challenge names no error."""
    assert_not_authenticated(await me(client))


@on_sqlite
@pytest.mark.parametrize("authorization", ["Basic {}", "Token {}", "JWT {}", "{}", "Bearer{}", "", "DPoP {}"])
async def test_another_scheme_is_no_bearer_token(alice: AsyncClient, authorization: str) -> None:
    """It is refused even when a valid token comes with it."""
    assert_not_authenticated(await me(alice, authorization.format(token_of(alice))))


async def test_a_cookie_is_no_bearer_token(alice: AsyncClient) -> None:
    """Browsers send cookies with the requests of foreign pages, too."""
    token = token_of(alice)
    assert_not_authenticated(await me(alice, cookie=f"token={token}; token=Bearer {token}; access_token={token}"))


async def test_a_query_parameter_is_no_bearer_token(alice: AsyncClient) -> None:
    """Addresses end up in logs."""
    token = token_of(alice)
    del alice.headers["Authorization"]
    assert_not_authenticated(await alice.get("/users/me", params={"access_token": token}))


# A bearer token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_written_in_any_case(alice: AsyncClient, scheme: str) -> None:
    """RFC 9110 makes the scheme's case irrelevant."""
    assert (await me(alice, f"{scheme} {token_of(alice)}")).json()["username"] == "alice"


@on_sqlite
@pytest.mark.parametrize("token", ["", "x", "a.b.c", "a.b.c.d", "\u00ff\u00fe", "null", "undefined"])
async def test_a_bearer_that_is_no_token_is_refused(client: AsyncClient, token: str) -> None:
    assert_refused(await me(client, f"Bearer {token}"))


@pytest.mark.in_process("whose requests nginx itself refuses")
async def test_two_authorization_headers_are_refused(alice: AsyncClient, bob: AsyncClient) -> None:
    """A proxy in front might have read the other one."""
    assert_refused(await me(alice, f"Bearer {token_of(alice)}", f"Bearer {token_of(bob)}"))


async def test_a_token_of_another_key_is_refused(alice: AsyncClient) -> None:
    assert_refused(await me(alice, "Bearer " + forged(alice, key=SECRET[::-1])))


@pytest.mark.parametrize(
    "header",
    [{"alg": "none"}, {"alg": "HS512"}, {"typ": "JWT"}, {"crit": ["exp"]}],
    ids=["none", "HS512", "typ", "crit"],
)
async def test_a_token_with_another_header_is_refused(alice: AsyncClient, header: dict[str, object]) -> None:
    """The algorithm is this service's choice, and an extension that it doesn't know may not be ignored."""
    key = {"none": "", "HS512": SECRET * 2}.get(str(header.get("alg")), SECRET)
    assert_refused(await me(alice, "Bearer " + forged(alice, key=key, header=header)))


@pytest.mark.parametrize(
    "claim", [{"iss": "http://there"}, {"aud": "http://there"}, {"aud": []}, {"sub": 1}, {"sid": "1"}]
)
async def test_a_token_with_other_claims_is_refused(alice: AsyncClient, claim: dict[str, object]) -> None:
    """It is refused even when it is signed with the right key."""
    assert_refused(await me(alice, "Bearer " + forged(alice, claim)))


@pytest.mark.parametrize("subject", ["", "alice", "-1", "0", "9223372036854775808", "1e3", "\u0661"])
async def test_a_token_of_no_user_is_refused(alice: AsyncClient, subject: str) -> None:
    """Such a token can only be made with the right key, and even so it is a 401 and not a fault."""
    assert_refused(await me(alice, "Bearer " + forged(alice, {"sub": subject})))


async def test_a_refresh_token_is_no_access_token(alice: AsyncClient, tokens: Tokens) -> None:
    """One kind of token is never accepted for another."""
    claims = claims_of(tokens, alice)
    refresh = tokens.issue(REFRESH, claims.user_id, timedelta(hours=1), sid=claims.sid)
    assert_refused(await me(alice, f"Bearer {refresh}"))


@pytest.mark.parametrize(("seconds", "status"), [(-15, 200), (-31, 401)])
async def test_a_token_expires_with_thirty_seconds_of_grace(
    alice: AsyncClient, tokens: Tokens, seconds: int, status: int
) -> None:
    """The clocks of two machines may differ by that much."""
    claims = claims_of(tokens, alice)
    token = tokens.issue(ACCESS, claims.user_id, timedelta(seconds=seconds), sid=claims.sid)
    answer = await me(alice, f"Bearer {token}")
    assert answer.status_code == status
    if status == 401:
        assert_refused(answer)


@pytest.mark.parametrize(
    "change",
    [
        lambda claims: delete(User).where(User.id == claims.user_id),
        lambda claims: update(User).where(User.id == claims.user_id).values(is_active=False),
        lambda claims: delete(LoginSession).where(LoginSession.id == claims.sid),
        lambda claims: update(LoginSession).where(LoginSession.id == claims.sid).values(expires_at=now()),
    ],
    ids=["user deleted", "user disabled", "session ended", "session expired"],
)
async def test_a_token_ends_with_its_user_and_its_session(
    alice: AsyncClient, database: Database, tokens: Tokens, change: Callable[[Claims], object]
) -> None:
    """It is refused at the next request, although the token itself is still valid."""
    token = token_of(alice)
    assert (await alice.get("/users/me")).status_code == 200
    async with database.transaction() as transaction:
        await transaction.execute(change(claims_of(tokens, alice)))  # type: ignore[call-overload] # a statement
    assert_refused(await me(alice, f"Bearer {token}"))


async def test_the_session_of_another_user_is_refused(alice: AsyncClient, bob: AsyncClient, tokens: Tokens) -> None:
    """A token's session and user must belong together."""
    assert_refused(await me(alice, "Bearer " + forged(alice, {"sid": claims_of(tokens, bob).sid})))


async def test_the_guard_asks_the_database_once(alice: AsyncClient, statements: Statements) -> None:
    """One statement, outside of a transaction, checks session and user together."""
    statements.clear()
    await alice.get("/users/me")
    assert len(statements) == 1, statements


# All routes -----------------------------------------------------------------------------------------------------------


def operations(app: Litestar) -> list[tuple[str, str]]:
    """Return the method and path of every operation but OPTIONS, which the framework answers by itself.

    Pages are left out, which take no bearer token.
    """
    return [
        (method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS" and not route.path_format.startswith(("/account", "/authorize"))
    ]


async def call(client: AsyncClient, method: str, path: str) -> Response:
    """Call an operation, with something for each parameter of its path."""
    return await client.request(method, re.sub(r"\{.*?\}", "1", path))


async def test_the_public_routes_are_these_and_no_others(app: Litestar, client: AsyncClient) -> None:
    """Every operation is called without a token; a new one that answers has to be added here on purpose."""
    answered = {
        f"{method} {path}" for method, path in operations(app) if (await call(client, method, path)).status_code != 401
    }
    assert answered == PUBLIC


async def test_every_other_route_asks_for_a_token(app: Litestar, client: AsyncClient) -> None:
    """It asks in all methods, with and without a slash at the end, before it looks at the rest of the request."""
    guarded = [operation for operation in operations(app) if " ".join(operation) not in PUBLIC]
    assert guarded
    for method, path in [*guarded, *(("HEAD", path) for method, path in guarded if method == "GET")]:
        for written in (path, path + "/"):
            answer = await call(client, method, written)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, BARE), (method, written)


async def test_a_path_that_ends_like_a_public_one_is_guarded_all_the_same(client: AsyncClient) -> None:
    """A route is made public on its handler, not by a pattern."""
    for path in ("/items/token", "/users/me/token", "/items/docs"):
        assert (await client.get(path)).status_code in {401, 404, 405}
