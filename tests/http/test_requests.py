"""The form that a request must have: strict JSON, known query parameters, canonical ids."""

import gzip
from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from litestar.routes import HTTPRoute

from app.http.requests import check_request
from app.pages.visit import admit
from tests.factories import PASSWORD, create_item, on_sqlite, register
from tests.problems import assert_problem, pointers

REFUSED_BY_NGINX = pytest.mark.in_process("whose requests nginx itself refuses")
JSON = {"Content-Type": "application/json"}
DEEP = 100_000
NOT_JSON = "The body is not valid JSON"
MISSING = [(f"/{name}", "is required") for name in ("email", "password", "username")]
TOO_MANY = [("", "has too many members"), *MISSING]


async def send(client: AsyncClient, body: bytes, content_type: str | None = "application/json") -> Response:
    """Send a registration with this body and return the answer."""
    headers = {"Content-Type": content_type} if content_type is not None else {}
    return await client.post("/users/", content=body, headers=headers)


# Bodies that are no JSON ----------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nonsense",
        b"{'username': 'alice'}",
        b'{"username": "alice",}',
        b'{"username": NaN}',
        b"{} {}",
        b'{"username": "\xff"}',
        b'{"username": "\xed\xa0\x80"}',
        b'{"username": "\\ud800"}',
        b'{"unknown": "\\udfff"}',
        b'{"username": "a\nb"}',
        b"\xef\xbb\xbf{}",
        b"{" + b'"a":{' * DEEP + b"}" * DEEP + b"}",
        b'{"unknown": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b"[" * DEEP + b"]" * DEEP,
        b"[" * DEEP,
    ],
    ids=[
        "nothing",
        "space",
        "cut off",
        "a word",
        "single quotes",
        "trailing comma",
        "NaN",
        "two documents",
        "byte FF",
        "bytes of a surrogate",
        "lone surrogate",
        "lone surrogate in an unknown field",
        "raw newline in a string",
        "byte order mark",
        "deep objects",
        "deep array in an unknown field",
        "deep array",
        "deep and cut off",
    ],
)
async def test_a_body_that_is_no_json_is_400(client: AsyncClient, body: bytes) -> None:
    assert_problem(await send(client, body), 400)


@on_sqlite
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=x; charset=nonsense",
        "application/msgpack",
        "application/json; charset=latin-1",
        'application/json; v=1; Charset = "UTF-16"',
        "application/json; charset=utf-8; charset=latin-1",
        "application/json; v=" + "1" * 300,
        "application/json, application/json",
        "json",
    ],
)
async def test_a_body_of_another_media_type_is_415(client: AsyncClient, content_type: str | None) -> None:
    """A page can send some media types across origins without asking, so JSON in one of them isn't taken."""
    body = b'{"username": "alice", "email": "alice@example.org", "password": "secret"}'
    assert_problem(await send(client, body, content_type), 415, "The body must be application/json in UTF-8")


@on_sqlite
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "Application/JSON",
        'application/json;charset="UTF-8"',
        "application/json; charset=utf-8;",
        "application/json; charset=utf8",
        "application/json ; odata.metadata=minimal",
        "application/json; v=1",
        "application/json;",
    ],
)
async def test_json_may_have_parameters(client: AsyncClient, content_type: str) -> None:
    """RFC 8259 defines none, so that they mean nothing; the media type may be written in any case."""
    body = '{"username": "alice", "email": "alice@example.org", "password": "pässword"}'.encode()
    assert (await send(client, body, content_type)).status_code == 201


@on_sqlite
@pytest.mark.parametrize("path", ["/users/", "/token"])
@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "br"])
async def test_a_compressed_body_is_415(client: AsyncClient, path: str, coding: str) -> None:
    """The answer says what is taken instead (RFC 9110, section 15.5.16)."""
    media_type = "application/x-www-form-urlencoded" if path == "/token" else "application/json"
    headers = {"Content-Encoding": coding, "Content-Type": media_type}
    answer = await client.post(path, content=gzip.compress(b"{}"), headers=headers)
    assert_problem(answer, 415, "The body must not be compressed")
    assert answer.headers["Accept-Encoding"] == "identity"


@on_sqlite
async def test_a_body_may_say_that_it_is_not_compressed(client: AsyncClient) -> None:
    headers = {"Content-Encoding": "identity", "Content-Type": "application/json"}
    body = b'{"username": "alice", "email": "alice@example.org", "password": "secret"}'
    assert (await client.post("/users/", content=body, headers=headers)).status_code == 201


@REFUSED_BY_NGINX
async def test_a_body_over_one_mebibyte_is_413(client: AsyncClient) -> None:
    """The limit holds with and without a length in the headers."""
    body = b'{"username": "' + b"a" * 1024 * 1024 + b'"}'
    assert_problem(await send(client, body), 413, "The body is too large")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    assert_problem(await client.post("/users/", content=chunks(), headers=JSON), 413, "The body is too large")


async def test_a_body_just_below_the_limit_is_read(client: AsyncClient) -> None:
    """The body is read: the answer names its field, which is too long."""
    body = b'{"username": "' + b"a" * (1024 * 1024 - 100) + b'"}'
    assert "/username" in pointers(await send(client, body))


# Bodies that don't fit ------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"1", b"true", b"[{}]"])
async def test_a_body_that_is_no_object_is_422(client: AsyncClient, body: bytes) -> None:
    """The pointer to the whole body is empty (RFC 6901)."""
    assert pointers(await send(client, body)) == [""]


async def test_every_wrong_field_is_named_at_once(client: AsyncClient) -> None:
    """Missing, wrong and unknown fields each have a JSON pointer and a reason in the service's own words."""
    answer = await client.post("/users/", json={"username": "", "email": 5, "a/b~c": 1, "is_superuser": True})
    assert_problem(answer, 422, "The request has invalid fields")
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == {
        "/a~1b~0c": "is unknown",
        "/email": "must be a string of 6 to 254 characters",
        "/is_superuser": "is unknown",
        "/password": "is required",
        "/username": "must be a string of 1 to 64 characters"
        " (letters, digits, dot, underscore, hyphen; a letter or digit first)",
    }


@on_sqlite
@pytest.mark.parametrize("value", [None, 5, 5.5, True, [], {}, ["alice"]])
async def test_a_value_of_another_type_is_422(client: AsyncClient, value: object) -> None:
    """Nothing is converted."""
    body = {"username": value, "email": "alice@example.org", "password": PASSWORD}
    assert pointers(await client.post("/users/", json=body)) == ["/username"]


async def test_a_string_with_nul_is_422(alice: AsyncClient) -> None:
    """PostgreSQL can't store NUL, so SQLite doesn't either."""
    assert pointers(await create_item(alice, "a\0b", "\0")) == ["/description", "/title"]


async def test_what_was_refused_left_nothing_behind(alice: AsyncClient) -> None:
    """Neither a body that is no JSON nor one that doesn't fit leaves a row."""
    assert (await alice.post("/items/", json={"title": "ok", "unknown": 1})).status_code == 422
    assert (await alice.post("/items/", content=b'{"title": "ok"', headers=JSON)).status_code == 400
    assert (await alice.get("/items/")).json() == []


# Query parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("unknown=1", "/unknown"),
        ("unknown", "/unknown"),
        ("Limit=1", "/Limit"),
        ("limit[]=1", "/limit[]"),
        ("%00=1", "/\0"),
        ("limit=1&limit=1", "/limit"),
        ("limit=1&limit=2", "/limit"),
        ("limit=", "/limit"),
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=1.5", "/limit"),
        ("limit=x", "/limit"),
        ("limit=1%00", "/limit"),
        ("limit=01", "/limit"),
        ("limit=+1", "/limit"),
        ("limit=%D9%A1", "/limit"),
        ("limit=99999999999999999999", "/limit"),
    ],
)
async def test_a_query_parameter_that_is_unknown_repeated_or_wrong_is_422(
    alice: AsyncClient, query: str, pointer: str
) -> None:
    """The answer names the parameter."""
    assert pointer in pointers(await alice.get(f"/items/?{query}"))


@pytest.mark.parametrize("query", ["limit=%FF", "%FF=1", "unknown=%ED%A0%80"])
async def test_a_query_that_is_no_utf8_is_400(alice: AsyncClient, query: str) -> None:
    """The query is refused before anybody looks at its parameters."""
    assert_problem(await alice.get(f"/items/?{query}"), 400, "The query is not valid UTF-8")


@pytest.mark.parametrize("path", ["/users/me", "/users", "/items/1"])
async def test_where_no_query_parameter_is_known_each_is_422(alice: AsyncClient, path: str) -> None:
    """Operations that take a body are no exception."""
    method = "POST" if path == "/users" else "GET"
    assert pointers(await alice.request(method, f"{path}?x=1", json={} if method == "POST" else None)) == ["/x"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json", "/docs"])
async def test_docs_and_health_ignore_query_parameters(client: AsyncClient, path: str) -> None:
    """Load balancers and caches add parameters of their own."""
    assert (await client.get(f"{path}?x=1&x=2")).status_code == 200


@on_sqlite
async def test_of_many_unknown_fields_an_answer_tells_a_few(client: AsyncClient) -> None:
    """All wrong and missing fields are told; of the unknown ones, too few for the answer to outgrow the question."""
    body = {f"a{number}": 1 for number in range(1000)}
    found = pointers(await client.post("/users/", json=body))
    assert {"/username", "/email", "/password"} < set(found)
    assert len(found) == 20 + 3


# Ids in paths ---------------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        (b"{" + b",".join(b'"a%d":1' % number for number in range(2001)) + b"}", 422, TOO_MANY),
        (b'{"a":"' + b":" * 2001 + b'"}', 422, TOO_MANY),
        (b"[" + b"{}," * 10_000 + b"{}]", 422, [("", "must be an object")]),
        (b"[" + b"{}," * 10_000 + b"]", 400, None),
        (b"{" + b'"a":1,' * 2001 + b"}", 400, None),
    ],
    ids=["members", "colons", "objects", "objects and no JSON", "members and no JSON"],
)
async def test_what_is_wrong_with_a_large_body_is_told_in_short(
    client: AsyncClient, body: bytes, status: int, found: list[tuple[str, str]] | None
) -> None:
    """To name each unknown member of a body of 1 MiB would hold the loop for 40 ms."""
    answer = await send(client, body)
    assert answer.status_code == status
    errors = [(error["pointer"], error["detail"]) for error in answer.json().get("errors", [])]
    assert errors == (found or [])


@on_sqlite
@pytest.mark.parametrize("value", [b'"\xff"', rb'"\ud800"', b"[" * 100_000 + b"]" * 100_000, b"[1,]", b"nul"])
@pytest.mark.parametrize("name", [b"username", b"unknown"])
async def test_what_is_no_json_is_400_whatever_else_is_wrong(client: AsyncClient, name: bytes, value: bytes) -> None:
    """The body is read to its end, although its first member is wrong."""
    assert_problem(await send(client, b'{"email": 1, "' + name + b'": ' + value + b"}"), 400, NOT_JSON)


@on_sqlite
@REFUSED_BY_NGINX
async def test_of_a_long_query_nothing_is_read(client: AsyncClient) -> None:
    """A query of 64 KB would hold the loop for 27 ms; of many unknown parameters a few are told."""
    answer = await client.post("/users/?" + "x=1&" * 2049, json={})
    assert_problem(answer, 422, "The request has invalid fields")
    assert answer.json()["errors"] == [{"pointer": "", "detail": "the query is too long"}]
    answer = await client.post("/users/?" + "&".join(f"a{number}=1" for number in range(1000)), json={})
    assert len(pointers(answer)) == 20
    assert (await client.get("/health/live?" + "x=1&" * 2049)).status_code == 200


BAD_IDS = [
    "0", "-1", "+1", "01", "1_0", "%201", "1%20", "%D9%A1", "1.0", "1e1", "0x1", "x", "%FF", "%2e%2e",
    "9223372036854775808", "1" + "0" * 5000,
]  # fmt: skip
WITH_NUL = [pytest.param(text, marks=REFUSED_BY_NGINX) for text in ("%00", "1%00")]


@pytest.mark.parametrize("item_id", [*BAD_IDS, *WITH_NUL], ids=lambda item_id: item_id[:20])
async def test_a_path_id_that_is_no_canonical_integer_of_64_bits_is_404(alice: AsyncClient, item_id: str) -> None:
    await create_item(alice)
    assert_problem(await alice.get(f"/items/{item_id}"), 404)


async def test_the_largest_id_is_looked_up(alice: AsyncClient) -> None:
    """The answer is that nothing has this id."""
    assert_problem(await alice.get(f"/items/{2**63 - 1}"), 404, "Item not found")


# Slashes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/users/me", "/items", "/items/1", "/health/live", "/openapi.json", "/docs"])
async def test_a_slash_at_the_end_makes_no_difference(alice: AsyncClient, path: str) -> None:
    """There is no redirect either, which would lose the body of a POST."""
    await create_item(alice)
    plain, slashed = await alice.get(path), await alice.get(path + "/")
    assert plain.status_code == slashed.status_code == 200
    if path != "/docs":
        assert plain.content == slashed.content


@on_sqlite
@pytest.mark.parametrize("path", ["//health/live", "/health//live", "/health/live//", "//docs", "//openapi.json"])
async def test_two_slashes_are_another_path(client: AsyncClient, path: str) -> None:
    """A proxy that bars a path may let the same path with two slashes through."""
    assert_problem(await client.get(f"http://test{path}"), 404, "There is nothing at this path")


async def test_registering_works_with_and_without_a_slash(client: AsyncClient) -> None:
    body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
    assert (await client.post("/users", json=body)).status_code == 201
    assert (await register(client, "bob")).status_code == 201


@on_sqlite
@pytest.mark.parametrize("host", ["x:abc", "[::1", "x" * 300])
async def test_a_strange_host_header_changes_nothing(client: AsyncClient, host: str) -> None:
    """Addresses are never built from it."""
    answer = await client.post("/users/", json={}, headers={"Host": host})
    assert pointers(answer) == ["/email", "/password", "/username"]


@on_sqlite
async def test_no_route_has_another_hook_in_place_of_the_checks(app: Litestar, client: AsyncClient) -> None:
    """The framework runs one hook before a handler: a closer one would silently replace the checks.

    That of pages makes the same checks first.
    """
    assert client.base_url.host == "test"  # The application runs, and has its routes.
    handlers = [handler for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers]
    assert len(handlers) > 30
    assert {handler.resolve_before_request() for handler in handlers} == {check_request, admit}
