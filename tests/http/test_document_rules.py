"""The libraries still need every repair of the OpenAPI document. A test that fails here names one that can go."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from litestar import Litestar
from litestar.openapi.spec import OpenAPI
from litestar.routes import HTTPRoute

from app.http.openapi import document
from app.http.openapi.repairs import DOCUMENT_REPAIRS, OPERATION_REPAIRS, describe_structs, sort_headers
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
    """The whole document."""
    return written(make_app())


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.__name__)
def test_the_document_is_another_without_the_repair(
    repaired: str, repair: object, monkeypatch: pytest.MonkeyPatch
) -> None:
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
