"""The OpenAPI document describes the application as it is."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from httpx import AsyncClient

from app import __version__
from app.errors import Conflict, OAuthError, PreconditionFailed
from app.http.openapi.document import openapi_config
from app.http.openapi.rules import raises
from app.settings import Settings
from tests.factories import SECRET, People

Document = dict[str, Any]
PROBLEM = "application/problem+json"
OAUTH_PATHS = {"/token", "/revoke", "/introspect", "/device_authorization"}


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database, which is enough here."""
    return sqlite_url


@pytest.fixture
async def document(client: AsyncClient) -> Document:
    """The document as a client reads it."""
    answer = await client.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    body: Document = answer.json()
    return body


def operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each operation with its method and path."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def resolve(document: Document, node: dict[str, Any]) -> dict[str, Any]:
    """Return the object that a node refers to, or the node itself."""
    if "$ref" not in node:
        return node
    kind, name = node["$ref"].removeprefix("#/components/").split("/")
    target: dict[str, Any] = document["components"][kind][name]
    return target


def nodes(node: object) -> Iterator[dict[str, Any]]:
    """Yield every object in the document, at any depth."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from nodes(child)


def example_path(path: str) -> str:
    """Return a path with an id in each of its places."""
    return re.sub(r"\{\w+\}", "1", path)


async def test_the_document_names_the_api_its_version_and_its_sections(document: Document) -> None:
    assert document["info"]["title"] == "Backend API"
    assert document["info"]["version"] == __version__
    assert document["info"]["description"]
    assert [tag["name"] for tag in document["tags"]][:3] == ["Users", "Authentication", "Items"]


async def test_every_operation_has_a_short_id_a_summary_and_a_section(document: Document) -> None:
    sections = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        assert re.fullmatch("[a-z]+(_[a-z]+)*", operation["operationId"]), (method, path)
        assert operation["summary"], (method, path)
        assert set(operation["tags"]) <= sections, (method, path)


async def test_operation_ids_are_stable(document: Document) -> None:
    ids = {(method, path): operation["operationId"] for method, path, operation in operations(document)}
    expected = {
        ("POST", "/users"): "create_user",
        ("GET", "/users/me"): "read_me",
        ("POST", "/token"): "login",
        ("POST", "/items"): "create_item",
        ("GET", "/items"): "list_items",
        ("GET", "/items/{item_id}"): "read_item",
        ("GET", "/health/live"): "live",
        ("GET", "/health/ready"): "ready",
    }
    assert expected.items() <= ids.items()


async def test_the_schemas_have_their_names_and_the_references_lead_somewhere(document: Document) -> None:
    schemas = document["components"]["schemas"]
    assert {"UserCreate", "UserRead", "ItemCreate", "ItemRead", "Token", "Problem"} <= schemas.keys()
    for node in nodes(document):
        resolve(document, node)


async def test_schemas_say_what_msgspec_checks(document: Document) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["ItemCreate"]["additionalProperties"] is False
    assert schemas["ItemRead"]["properties"]["id"]["maximum"] == 2**63 - 1
    assert schemas["ItemRead"]["properties"]["created_at"]["format"] == "date-time"
    assert schemas["Token"]["properties"]["token_type"] == {"enum": ["bearer"], "type": "string"}
    read = document["paths"]["/items/{item_id}"]["get"]
    schema = read["parameters"][0]["schema"]
    assert schema == {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "examples": [1], "format": "int64"}
    [content] = read["responses"]["200"]["content"].values()
    assert content["schema"] == {"$ref": "#/components/schemas/ItemRead"}


async def test_every_field_and_parameter_has_an_example(document: Document) -> None:
    """Errors, whose answers have whole examples, enumerations and cursors, which nobody makes up, have none."""
    lacking = []
    for name, schema in document["components"]["schemas"].items():
        fields = schema["properties"].items() if name not in {"Problem", "OAuthProblem", "InvalidField"} else ()
        lacking += [f"{name}.{field}" for field, part in fields if not has_example(part)]
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["name"] != "cursor" and not has_example(parameter | parameter["schema"]):
                lacking.append(f"{method} {path} {parameter['name']}")
    assert lacking == []


def has_example(schema: dict[str, Any]) -> bool:
    """Return whether a schema, or an alternative of it, has an example, or is one of a few values."""
    return bool(schema.keys() & {"examples", "enum"}) or any(map(has_example, schema.get("anyOf", [])))


async def test_a_form_says_which_parameters_a_grant_takes(document: Document) -> None:
    form = document["components"]["schemas"]["TokenRequest"]
    needed, part = {}, form
    while "if" in part:
        needed[part["if"]["properties"]["grant_type"]["const"]] = part["then"]
        part = part["else"]
    needed["password"] = part
    assert sorted(needed) == sorted(form["properties"]["grant_type"]["enum"])
    assert needed["refresh_token"]["required"] == ["refresh_token"]
    assert needed["password"]["required"] == ["username", "password"]
    assert all(part["patternProperties"] for part in needed.values())
    assert form["properties"].keys() > {name for part in needed.values() for name in part["required"]}
    assert not form.get("required")


async def test_no_schema_has_properties_without_names(document: Document) -> None:
    """TypeScript's generators make an index signature of them, which properties that may be left out don't fit."""
    for name, schema in document["components"]["schemas"].items():
        assert "patternProperties" not in schema, name
        assert schema.get("additionalProperties", False) is False, name


async def test_parameters_say_what_is_checked_of_them(document: Document) -> None:
    parameters = {
        parameter["name"]: parameter["schema"] for parameter in document["paths"]["/items"]["get"]["parameters"]
    }
    assert (parameters["limit"]["minimum"], parameters["limit"]["maximum"]) == (1, 100)
    assert parameters["q"]["pattern"] == parameters["cursor"]["pattern"] == r"^[^\x00]*$"
    assert parameters["sort"]["enum"][:2] == ["id", "-id"]
    assert parameters["sort"]["x-enum-varnames"][:2] == ["ID", "ID_DESCENDING"]


async def test_an_answer_without_a_body_has_no_content(document: Document) -> None:
    for path, method, status in [("/revoke", "post", "200"), ("/users/me", "delete", "204")]:
        assert "content" not in document["paths"][path][method]["responses"][status]
    assert "content" not in document["paths"]["/items/{item_id}"]["get"]["responses"]["304"]


async def test_people_sign_in_by_password_or_on_pages(document: Document) -> None:
    """The password flow comes first: the pages of the document offer them in this order."""
    [scheme] = document["components"]["securitySchemes"].values()
    assert scheme["type"] == "oauth2"
    assert list(scheme["flows"]) == ["password", "authorizationCode"]
    password, code = scheme["flows"].values()
    assert password["tokenUrl"] == "token"
    assert code == {"authorizationUrl": "http://127.0.0.1:8000/authorize", **password}
    assert document["security"] == [{name: []} for name in document["components"]["securitySchemes"]]


async def test_a_padlock_is_on_what_needs_a_token_and_nothing_else(client: AsyncClient, document: Document) -> None:
    for method, path, operation in operations(document):
        answer = await client.request(method, example_path(path))
        challenge = answer.headers.get("WWW-Authenticate")
        assert (challenge is None) == (operation.get("security") == []), (method, path)
        assert ("401" in operation["responses"]) or challenge is None, (method, path)


async def test_errors_are_problem_details_but_where_oauth_has_its_own(document: Document) -> None:
    for method, path, operation in operations(document):
        for status, reference in operation["responses"].items():
            answer = resolve(document, reference)
            assert "X-Request-ID" in answer["headers"]
            assert all("schema" in resolve(document, header) for header in answer["headers"].values())
            assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})
            assert ("WWW-Authenticate" in answer["headers"]) == (status == "401")
            if status >= "400":
                oauth = path in OAUTH_PATHS and status in {"400", "401", "403"}
                media_type, name = ("application/json", "OAuthProblem") if oauth else (PROBLEM, "Problem")
                content = answer["content"][media_type]
                assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}, (method, path, status)
                assert content.get("example") or content.get("examples"), (method, path, status)


async def test_what_only_some_operations_raise_is_documented(document: Document) -> None:
    described = {
        ("post", "/token", "401"): "Incorrect username or password",
        ("post", "/users", "400"): "Username or email already registered",
        ("get", "/items/{item_id}", "403"): "Not authorized to access this item",
        ("get", "/items/{item_id}", "404"): "Item not found",
        ("post", "/items", "409"): "What this belongs to has just been deleted",
        ("patch", "/users/me", "404"): "User not found",
    }
    for (method, path, status), detail in described.items():
        answer = document["paths"][path][method]["responses"].get(status)
        assert answer is not None, (method, path, status)
        assert detail in resolve(document, answer)["description"]


BAD_REQUESTS: list[dict[str, Any]] = [
    {},
    {"params": {"unknown": "1"}},
    {"json": {"unknown": 1}},
    {"content": b"{", "headers": {"Content-Type": "application/json"}},
    {"content": b"a=b", "headers": {"Content-Type": "text/plain"}},
    {"content": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    {"content": b" " * (1024 * 1024 + 1), "headers": {"Content-Type": "application/json"}},
]


@pytest.mark.parametrize("signed_in", [False, True])
@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=range(len(BAD_REQUESTS)))
async def test_whatever_is_answered_is_documented(
    client: AsyncClient,
    people: People,
    document: Document,
    bad: dict[str, Any],
    signed_in: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    caller = await people.sign_in("alice") if signed_in else client
    for method, path, operation in operations(document):
        if method in {"DELETE", "PUT"}:  # They would end what the next ones need.
            continue
        answer = await caller.request(method, example_path(path), **bad)
        documented = operation["responses"].get(str(answer.status_code))
        assert documented is not None, (method, path, answer.text)
        media_types = resolve(document, documented).get("content", {}).keys()
        assert not media_types or answer.headers["Content-Type"] in media_types, (method, path, answer.text)


async def test_a_service_below_a_path_says_so() -> None:
    settings = Settings(secret_key=SECRET, public_url="https://example.org/api")
    assert [server.url for server in openapi_config(settings, [], {}, {}).servers] == ["/api/"]


def test_a_handler_adds_what_only_it_raises() -> None:
    class Gone(Conflict):
        detail = "It is gone"

    class Late(Conflict):
        detail = "It is late"

    responses = raises(Gone, PreconditionFailed, Late)

    assert {status: response.description for status, response in responses.items()} == {
        409: "It is gone; It is late",
        412: PreconditionFailed.detail,
    }
    assert [example.summary for example in responses[409].examples or []] == ["It is gone", "It is late"]


def test_an_oauth_error_is_documented_as_json() -> None:
    class Denied(OAuthError):
        status = 401
        error = "invalid_grant"
        detail = "No"

    [(status, response)] = raises(Denied).items()

    assert (status, response.media_type) == (401, "application/json")
    assert [example.value for example in response.examples or []] == [
        {"error": "invalid_grant", "error_description": "No", "status": 401, "detail": "No"}
    ]
