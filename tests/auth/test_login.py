"""Logging in over HTTP: POST /token by OAuth2's password grant."""

import asyncio
from collections import Counter
from urllib.parse import urlencode

import jwt
import pytest
from argon2 import PasswordHasher
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import select

from app.database.sessions import Database
from app.http.feature import Parts
from app.settings import Settings
from app.users.models import User
from tests.factories import PASSWORD, REAL_HASHER, SECRET, Statements, add_user, log_in, on_sqlite, passwords, register
from tests.problems import assert_oauth_error, assert_problem

WRONG = "Incorrect username or password"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def send(client: AsyncClient, form: str | bytes, **headers: str) -> Response:
    """Send a form as it is written here and return the answer."""
    return await client.post("/token", content=form, headers=FORM | headers)


def assert_wrong(answer: Response) -> None:
    """Check for the one answer that every failed login gets."""
    assert_oauth_error(answer, 401, "invalid_grant", WRONG)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


# It works -------------------------------------------------------------------------------------------------------------


async def test_the_right_password_buys_tokens(client: AsyncClient) -> None:
    """The access token works for thirty minutes."""
    await register(client, "alice")
    answer = await log_in(client, "alice")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", 1800)
    me = await client.get("/users/me", headers={"Authorization": f"Bearer {body['access_token']}"})
    assert me.json()["username"] == "alice"


async def test_an_access_token_says_who_and_for_how_long(client: AsyncClient, settings: Settings) -> None:
    """It is signed with the secret key by HS256, and its `sub` is the user's id."""
    user_id = (await register(client, "alice")).json()["id"]
    token = (await log_in(client, "alice")).json()["access_token"]
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience=settings.url, issuer=settings.url)
    assert claims["sub"] == str(user_id)
    assert claims["exp"] - claims["iat"] == 1800
    assert set(claims) >= {"iss", "aud", "sub", "sid", "jti", "iat", "exp"}
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


@pytest.mark.parametrize("name", ["Alice", "alice", "ALICE", "alice@example.org", "Alice@Example.ORG"])
async def test_either_name_logs_in_in_any_case(client: AsyncClient, name: str) -> None:
    """The name is the username or the e-mail address."""
    await register(client, "Alice", email="alice@example.org")
    assert (await log_in(client, name)).status_code == 200


async def test_a_password_is_the_same_however_its_accents_are_composed(client: AsyncClient) -> None:
    """One keyboard sends é as one character, another as two."""
    await register(client, "alice", password="caf\u00e9 au lait")
    assert (await log_in(client, "alice", password="cafe\u0301 au lait")).status_code == 200


@pytest.mark.parametrize("password", [" spaces ", "plus+and&equals=", "\u2603\U0001f600", "a" * 256, "%41", "\t"])
async def test_a_password_is_taken_as_it_is(client: AsyncClient, password: str) -> None:
    """Nothing is cut off or decoded twice."""
    await register(client, "alice", password=password)
    assert (await log_in(client, "alice", password=password)).status_code == 200
    assert_wrong(await log_in(client, "alice", password=password + "x"))


# It doesn't -----------------------------------------------------------------------------------------------------------


async def test_every_failed_login_gets_the_same_answer_after_one_hash(
    app: Litestar, client: AsyncClient, hashes: Counter[str]
) -> None:
    """Neither text nor time tells an unknown name, a wrong password and a disabled user apart."""
    await add_user(app, "alice")
    await add_user(app, "bob", is_active=False)
    bodies = []
    for name, password in [
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("alice", "wrong"),
        ("bob", PASSWORD),
        ("bob", "wrong"),
    ]:
        hashes.clear()
        answer = await log_in(client, name, password=password)
        assert_wrong(answer)
        bodies.append(answer.json())
        assert hashes == {"verify": 1}, name
    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize("name", ["' OR 1=1 --", "alice%", "_lice", "a" * 10_000, "\u00e9", "@", "alice\n"])
async def test_a_strange_name_is_an_unknown_one(client: AsyncClient, name: str) -> None:
    await register(client, "alice")
    assert_wrong(await log_in(client, name))


async def test_a_login_costs_one_hash_and_no_transaction_is_open_meanwhile(
    app: Litestar, client: AsyncClient, hashes: Counter[str], statements: Statements
) -> None:
    """The account is read first, outside of a transaction; the session is written after the hash.

    The event costs its INSERT and nothing else.
    """
    await add_user(app, "alice")
    hashes.clear()
    statements.clear()
    assert (await log_in(client, "alice")).status_code == 200
    assert hashes == {"verify": 1}
    words = [statement.split()[0] for statement in statements]
    assert words == ["SELECT", "BEGIN", "SELECT", "INSERT", "DELETE", "INSERT", "COMMIT"]


async def test_a_login_renews_a_hash_that_was_made_with_other_parameters(
    app: Litestar, client: AsyncClient, database: Database
) -> None:
    """The password is there at no other moment."""
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    user = await add_user(app, "alice", hashed_password=old)
    assert_wrong(await log_in(client, "alice", password="wrong"))
    stored = select(User.hashed_password).where(User.id == user.id)
    assert (await database.fetch(stored, {}))[0][0] == old
    assert (await log_in(client, "alice")).status_code == 200
    assert not passwords().is_outdated((await database.fetch(stored, {}))[0][0])
    assert (await log_in(client, "alice")).status_code == 200


@pytest.mark.in_process("that reach into the application's process")
async def test_more_logins_than_the_queue_holds_are_turned_away(
    app: Litestar, client: AsyncClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get 503 and Retry-After; the others are served. Real hashes take so long that a queue forms."""
    await add_user(app, "alice", hashed_password=REAL_HASHER.hash(PASSWORD))
    monkeypatch.setattr(parts.passwords, "hasher", REAL_HASHER)
    monkeypatch.setattr(parts.passwords, "capacity", 3)
    answers = await asyncio.gather(*(log_in(client, "alice") for _ in range(8)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < len(answers)
    for answer in refused:
        assert_problem(answer, 503, "Too many passwords are being checked; try again")
    assert (await log_in(client, "alice")).status_code == 200


# The form -------------------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(
    ("form", "detail"),
    [
        ("", "username is required"),
        ("username=alice", "password is required"),
        ("password=x", "username is required"),
        ("username=&password=x", "username is required"),
        ("username=alice&password=", "password is required"),
        ("grant_type=password&username=alice", "password is required"),
    ],
)
async def test_a_field_that_is_missing_or_empty_is_an_invalid_request(
    client: AsyncClient, form: str, detail: str
) -> None:
    """RFC 6749 takes a parameter without a value for one that isn't there."""
    assert_oauth_error(await send(client, form), 400, "invalid_request", detail)


@on_sqlite
@pytest.mark.parametrize("grant_type", ["implicit", "client-credentials", "Password", "password ", "x"])
async def test_an_unknown_grant_type_is_unsupported(client: AsyncClient, grant_type: str) -> None:
    """The rest of the form doesn't matter."""
    answer = await client.post("/token", data={"grant_type": grant_type, "username": "alice", "password": PASSWORD})
    assert_oauth_error(answer, 400, "unsupported_grant_type")


@on_sqlite
@pytest.mark.parametrize(
    "form",
    [
        "username=alice&username=alice&password=x",
        "username=alice&password=x&password=y",
        "username=alice&password=x&scope=a&scope=b",
        "username=alice&password=x&unknown=1&unknown=2",
        "username=al%FFice&password=x",
        b"username=alice&password=\xff",
        b"username=alice&password=\xed\xa0\x80",
        "username=alice&password=%ED%A0%80",
        "username=al%00ice&password=x",
        "username=alice&password=x%00",
        "&".join(f"a{number}=1" for number in range(101)),
    ],
)
async def test_a_malformed_form_is_an_invalid_request(client: AsyncClient, form: str | bytes) -> None:
    """Forms have repeated parameters, bytes that are no UTF-8, NUL, or too many parameters."""
    assert_oauth_error(await send(client, form), 400, "invalid_request")


async def test_what_a_public_client_sends_beside_is_ignored(client: AsyncClient) -> None:
    """It may send `Authorization: Basic`, a client_secret, and parameters that nobody knows."""
    await register(client, "alice")
    form = urlencode(
        {
            "grant_type": "password",
            "username": "alice",
            "password": PASSWORD,
            "client_id": "app",
            "client_secret": "secret",
            "audience": "x",
            "empty": "",
        }
    )
    for authorization in ("Basic YXBwOnNlY3JldA==", "Basic !", "Bearer nonsense", "x"):
        assert (await send(client, form, Authorization=authorization)).status_code == 200
    assert (await client.post("/token?x=1&x=2", content=form, headers=FORM)).status_code == 200


@on_sqlite
@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", "multipart/form-data", ""]
)
async def test_another_media_type_is_415(client: AsyncClient, content_type: str) -> None:
    """The answer is a problem detail, as on every other route."""
    answer = await client.post("/token", content=b"username=a&password=b", headers={"Content-Type": content_type})
    assert_problem(answer, 415, "The body must be application/x-www-form-urlencoded")


async def test_a_form_may_say_that_it_is_utf8(client: AsyncClient) -> None:
    """Browsers do so."""
    await register(client, "alice")
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    form = urlencode({"username": "alice", "password": PASSWORD})
    assert (await client.post("/token", content=form, headers=headers)).status_code == 200


async def test_a_form_over_sixteen_kibibytes_is_413(client: AsyncClient) -> None:
    """It is refused before it is parsed."""
    assert_problem(await send(client, "username=alice&password=" + "x" * 16 * 1024), 413, "The body is too large")
    assert_wrong(await send(client, "username=alice&password=" + "x" * 16 * 1000))


async def test_head_and_get_of_the_token_endpoint_are_405(client: AsyncClient) -> None:
    """A password doesn't belong into an address."""
    for method in ("GET", "HEAD", "PUT"):
        assert (await client.request(method, "/token?username=alice&password=x")).status_code == 405
