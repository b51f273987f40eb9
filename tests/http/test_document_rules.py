"""The rules of the OpenAPI document, and its repairs, which the libraries still need."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from litestar import Litestar
from litestar.openapi.spec import OpenAPI
from litestar.routes import HTTPRoute

from app.http.openapi import document
from app.http.openapi.repairs import DOCUMENT_REPAIRS, OPERATION_REPAIRS, describe_structs, sort_headers
from app.http.openapi.rules import name_int64
from app.main import create_app
from app.settings import Settings
from tests.factories import SECRET

# Those have tests of their own: what one of them mends is right by chance at times, and others build on the other.
SPECIAL = {sort_headers, describe_structs}
REPAIRS: Sequence[Any] = [repair for repair in (*OPERATION_REPAIRS, *DOCUMENT_REPAIRS) if repair not in SPECIAL]


def make_app() -> Litestar:
    """Return an application whose document is not written out yet."""
    return create_app(Settings(secret_key=SECRET))


def written(app: Litestar) -> str:
    """Return the document as text, in which the order counts, too."""
    return json.dumps(app.openapi_schema.to_schema())


@pytest.fixture(scope="module")
def repaired() -> str:
    """The whole document, with its repairs."""
    return written(make_app())


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.__name__)
def test_the_document_is_another_without_the_repair(
    repaired: str, repair: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is the same, the library has been mended, and the repair can go."""
    for name, repairs in (("OPERATION_REPAIRS", OPERATION_REPAIRS), ("DOCUMENT_REPAIRS", DOCUMENT_REPAIRS)):
        monkeypatch.setattr(document, name, [other for other in repairs if other is not repair])

    assert written(make_app()) != repaired


def test_litestar_says_less_of_a_struct_than_msgspec(repaired: str) -> None:
    litestars = OpenAPI.to_schema(make_app().openapi_schema)["components"]["schemas"]["ItemCreate"]
    ours = json.loads(repaired)["components"]["schemas"]["ItemCreate"]

    assert ours.keys() - litestars.keys() == {"description", "additionalProperties"}


def test_litestar_keeps_headers_in_a_set() -> None:
    handlers = [
        handler for route in make_app().routes if isinstance(route, HTTPRoute) for handler in route.route_handlers
    ]
    assert {type(handler.resolve_response_headers()) for handler in handlers} == {frozenset}


WEBAUTHN = {"KeyOwner", "KeyReference", "NewCredential", "Party", "SignedCredential"}
"""The schemas of passkeys, whose ids are text: those of keys, of their owners, and a domain."""


def test_every_id_has_64_bits_in_paths_bodies_and_queries(repaired: str) -> None:
    whole = json.loads(repaired)
    fields = [
        (name, field)
        for kind, schema in whole["components"]["schemas"].items()
        for name, field in schema["properties"].items()
        if kind not in WEBAUTHN
    ]
    parameters = [
        (parameter["name"], parameter["schema"])
        for path in whole["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
    ]
    # The ids of an OAuth client and of a request are text.
    texts = {"client_id", "request_id"}
    ids = [schema for name, schema in fields + parameters if re.search("(^|_)id$", name) and name not in texts]
    kinds = [kind for schema in ids for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]

    assert len(kinds) == len(ids) > 5
    assert {(kind["type"], kind["format"]) for kind in kinds} == {("integer", "int64")}


def test_an_integer_has_64_bits_wherever_it_is_unless_its_bound_fits_32() -> None:
    def integer(**more: object) -> dict[str, Any]:
        return {"type": "integer", **more}

    query = {"in": "query", "name": "owner_id", "schema": integer(minimum=1, maximum=2**63 - 1)}
    tags: dict[str, Any] = {"anyOf": [{"type": "array", "items": integer(maximum=2**31)}, {"type": "null"}]}
    body: dict[str, Any] = {"properties": {"type": integer(), "size": integer(maximum=2**31 - 1), "tags": tags}}
    whole = {"paths": {"/": {"get": {"parameters": [query]}}}, "components": {"schemas": {"Body": body}}}

    name_int64(whole, [])

    assert query["schema"] == integer(minimum=1, maximum=2**63 - 1, format="int64")
    assert body["properties"]["type"] == integer(format="int64")
    assert body["properties"]["size"] == integer(maximum=2**31 - 1)
    assert tags["anyOf"][0]["items"] == integer(maximum=2**31, format="int64")
