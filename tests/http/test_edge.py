"""The parts that every answer has, whatever its route: request ids, security headers, HEAD, caching."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from httpx import AsyncClient
from litestar import Litestar
from litestar.routes import HTTPRoute

from app.http import bodies
from app.main import create_app
from app.settings import Settings
from tests.factories import SECRET, People, connect_to, create_item, log_in, on_sqlite, register
from tests.outbox import deliver, token_in
from tests.problems import assert_problem

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


# Request ids ----------------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize("request_id", ["a", "0f8fad5b-d9cb-469f-a165-70867728950e", "A.b_c~d-9", "x" * 128])
async def test_a_sane_request_id_is_echoed(client: AsyncClient, request_id: str) -> None:
    """The lines of a client's own log and of the service's can be matched by it."""
    answer = await client.get("/users/me", headers={"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] == answer.json()["instance"] == request_id


@on_sqlite
@pytest.mark.parametrize("request_id", ["", " ", "a b", "x" * 129, "\u00e9", '"', "<script>", "a,b", "\x1b[31m"])
async def test_a_strange_request_id_is_replaced(client: AsyncClient, request_id: str) -> None:
    """The id goes into logs and answers, so it may hold nothing strange."""
    answer = await client.get("/users/me", headers=[(b"X-Request-ID", request_id.encode("latin-1"))])
    assert len(answer.headers["X-Request-ID"]) == 32
    assert answer.headers["X-Request-ID"] == answer.json()["instance"]


async def test_a_request_without_an_id_gets_one_of_its_own(client: AsyncClient) -> None:
    ids = {(await client.get("/health/live")).headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3


# Security headers -----------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/users/me", 401),
        ("GET", "/nowhere", 404),
        ("GET", "/", 200),
        ("DELETE", "/items", 405),
        ("POST", "/users", 415),
        ("OPTIONS", "/items", 204),
    ],
)
async def test_every_answer_has_security_headers(client: AsyncClient, method: str, path: str, status: int) -> None:
    """Errors that the routing finds have them, too."""
    answer = await client.request(method, path)
    assert answer.status_code == status
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value]
    (policy,) = answer.headers.get_list("Content-Security-Policy")
    assert {"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))
    assert "Server" not in answer.headers


@pytest.mark.parametrize(("public_url", "strict"), [("https://api.example.org", True), ("http://localhost", False)])
async def test_https_alone_is_asked_for_where_the_service_is_on_https(
    database_url: str, public_url: str, *, strict: bool
) -> None:
    """On plain HTTP, the header would be ignored or lock developers out."""
    settings = Settings(secret_key=SECRET, database_url=database_url, public_url=public_url, jobs_in_process=False)
    async with connect_to(create_app(settings)) as client:
        answer = await client.get("/health/live")
    assert ("Strict-Transport-Security" in answer.headers) is strict


# Caching --------------------------------------------------------------------------------------------------------------


async def test_guarded_answers_are_private_and_checked_before_they_are_used_again(alice: AsyncClient) -> None:
    """The headers are the same for every status."""
    created = await create_item(alice)
    answers = [
        created,
        await alice.get("/users/me"),
        await alice.get("/items"),
        await alice.get("/items/1"),
        await alice.get("/items/1", headers={"If-None-Match": created.headers["ETag"]}),
        await alice.get("/items/2"),
        await alice.get("/items?x=1"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 304, 404, 422]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"private, no-cache"}


async def test_what_carries_a_token_is_never_stored(client: AsyncClient) -> None:
    """The answer to a failed login isn't stored either."""
    await register(client, "alice")
    for answer in (await log_in(client, "alice"), await log_in(client, "alice", password="wrong")):
        assert answer.headers["Cache-Control"] == "no-store"


async def test_no_answer_is_kept_for_somebody_else(people: People) -> None:
    """Two users ask for the same addresses in turn, and one of them changes their data meanwhile."""
    alice, bob = await people.sign_in("alice"), await people.sign_in("bob")
    await create_item(alice, "Umbrella")
    for path in ("/users/me", "/users/me/sessions", "/items"):
        answers = [(await client.get(path)).content for client in (alice, bob, alice)]
        assert answers[0] == answers[2] != answers[1], path
    await create_item(alice, "Boots")
    assert [item["title"] for item in (await alice.get("/items")).json()] == ["Boots", "Umbrella"]
    assert (await people.client.get("/items")).status_code == 401


@pytest.mark.parametrize("path", ["/docs", "/docs/scalar", "/health/live", "/nowhere"])
async def test_no_answer_sets_a_cookie(alice: AsyncClient, client: AsyncClient, path: str) -> None:
    """Browsers send nothing of this service's by themselves, so a foreign page can't abuse it."""
    for answer in [await alice.get(path), await alice.get("/users/me"), await log_in(client, "alice")]:
        assert "Set-Cookie" not in answer.headers


# Methods --------------------------------------------------------------------------------------------------------------


async def test_head_answers_as_get_does_without_a_body(app: Litestar, alice: AsyncClient) -> None:
    await create_item(alice)
    paths = [route.path_format for route in app.routes if isinstance(route, HTTPRoute) and "GET" in route.methods]
    assert len(paths) > 5
    for path in paths:
        url = path.replace("{item_id}", "1").replace("{user_id}", "1").replace("{", "").replace("}", "")
        got, head = await alice.get(url), await alice.head(url)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        for name in ("Content-Type", "Content-Length", "ETag", "Cache-Control", "Vary"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)


async def test_head_of_nothing_is_404_and_head_of_what_has_no_get_is_405(client: AsyncClient) -> None:
    assert (await client.head("/nowhere")).status_code == 404
    answer = await client.head("/token")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "OPTIONS, POST")


@on_sqlite
@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/items", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/users", "POST"),
        ("GET", "/token", "OPTIONS, POST"),
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
        ("TRACE", "/items", "GET, HEAD, OPTIONS, POST"),
        ("PROPFIND", "/items", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/docs", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_method_that_a_path_does_not_have_is_405(
    client: AsyncClient, method: str, path: str, allow: str
) -> None:
    """`Allow` names the methods that the path has."""
    answer = await client.request(method, path)
    assert_problem(answer, 405, "The resource does not support this method")
    assert set(allow.split(", ")) <= set(answer.headers["Allow"].split(", "))
    assert method not in answer.headers["Allow"]


async def test_options_names_the_methods_of_a_path(client: AsyncClient) -> None:
    """The caller needn't be signed in."""
    answer = await client.options("/items")
    assert answer.status_code == 204
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


async def test_a_path_that_is_nowhere_is_404_in_any_method(alice: AsyncClient) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        for path in ("/nowhere", "/items/1/2", "/users/me/x"):
            assert_problem(await alice.request(method, path), 404, "There is nothing at this path")


# Bodies that don't come -----------------------------------------------------------------------------------------------


@on_sqlite
async def test_a_body_that_does_not_come_in_time_is_408(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time counts for the whole body, and the connection is closed, since the rest may still come."""
    monkeypatch.setattr(bodies, "BODY_WITHIN_SECONDS", 0.2)
    monkeypatch.setattr(bodies, "REST_WITHIN_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    answer = await client.post("/users/", content=trickle(), headers={"Content-Type": "application/json"})
    assert_problem(answer, 408, "The body took too long")
    assert answer.headers["Connection"] == "close"


# CORS -----------------------------------------------------------------------------------------------------------------

ORIGIN = "https://app.example.org"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


def cors_headers(headers: Iterable[str]) -> list[str]:
    """Return the names of the headers that let foreign pages in."""
    return [name for name in headers if name.startswith("access-control-")]


async def test_no_foreign_page_may_call_unless_an_origin_is_named(client: AsyncClient) -> None:
    """Neither a simple request nor a preflight gets a header that allows it."""
    assert not cors_headers((await client.get("/health/live", headers={"Origin": ORIGIN})).headers)
    assert not cors_headers((await client.options("/items", headers=PREFLIGHT)).headers)


@pytest.fixture
def open_settings(database_url: str) -> Settings:
    """Settings that name an origin."""
    return Settings(
        secret_key=SECRET,
        database_url=database_url,
        cors_origins=("https://App.Example.org:443",),
        jobs_in_process=False,
    )


async def test_a_page_of_a_named_origin_may_call(open_settings: Settings) -> None:
    """The page may also read errors, request ids and page links."""
    async with connect_to(create_app(open_settings)) as client:
        preflight = await client.options("/items", headers=PREFLIGHT)
        assert preflight.status_code == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
        for path in ("/health/live", "/users/me", "/nowhere"):
            answer = await client.get(path, headers={"Origin": ORIGIN})
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN, path
            assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"], path
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert "Origin" in answer.headers["Vary"]


async def test_a_page_of_another_origin_may_not(open_settings: Settings) -> None:
    """An origin that begins or ends like the named one is another origin."""
    async with connect_to(create_app(open_settings)) as client:
        for origin in ("https://evil.example", ORIGIN + ".evil.example", "http://app.example.org", "null"):
            answer = await client.get("/health/live", headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in answer.headers
            preflight = await client.options("/items", headers=PREFLIGHT | {"Origin": origin})
            assert "Access-Control-Allow-Origin" not in preflight.headers


# Behind a proxy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("public_url", ["https://example.org/shop/api", "https://example.org/shop/api/"])
async def test_paths_in_answers_begin_with_the_path_of_the_public_url(database_url: str, public_url: str) -> None:
    """A proxy that serves the service below a path cuts it off the requests; the client must not."""
    settings = Settings(secret_key=SECRET, database_url=database_url, public_url=public_url, jobs_in_process=False)
    async with connect_to(app := create_app(settings)) as client:
        alice = await People(app, client).sign_in("alice")
        for number in (1, 2):
            assert (await create_item(alice)).headers["Location"] == f"/shop/api/items/{number}"
        answer = await alice.get("/items?limit=1")
        assert answer.headers["Link"].startswith("</shop/api/items?limit=1&cursor=")
        assert (await alice.get(answer.links["next"]["url"].removeprefix("/shop/api"))).json()[0]["id"] == 1


FORGED = {
    "Host": "evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/evil.example",
    "Forwarded": "host=evil.example;proto=https",
    "X-Original-URL": "/evil.example",
}


async def test_no_link_and_no_mail_names_what_a_client_calls_the_service(
    app: Litestar, alice: AsyncClient, settings: Settings
) -> None:
    """A reset link to a stranger's host would hand them the token."""
    answers = [await alice.post("/items/", json={"title": "Umbrella"}, headers=FORGED) for _ in range(2)]
    answers.append(await alice.get("/items/?limit=1", headers=FORGED))
    answers.append(await alice.get("/nowhere", headers=FORGED))
    answers += [await alice.get(path, headers=FORGED) for path in ("/openapi.json", "/docs", "/docs/scalar")]
    answers.append(await alice.post("/password-reset", json={"email": "alice@example.org"}, headers=FORGED))
    assert [answer.status_code for answer in answers] == [201, 201, 200, 404, 200, 200, 200, 202]
    for answer in answers:
        assert "evil" not in str(answer.headers)
        assert "evil.example" not in answer.text
    (mail,) = await deliver(app, settings)
    assert token_in(mail)
    assert "evil" not in mail.as_string()
