"""Repairs of the document that Litestar 2.25 and msgspec 0.22 make, one function for each fault.

Each says what the library does, where that was reported, and when the function can go. Where no report was found it
says so, and names the place in the library's source. A test shows that every repair still changes the document.
"""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler

from app.errors import phrase
from app.http.access import FORM_KEY, is_public
from app.http.openapi.changes import DocumentChange, Node, OperationChange
from app.http.problems import OAuthProblem, Problem

NULL = {"type": "null"}


def open_public(operation: Node, handler: HTTPRouteHandler) -> None:
    """Say that a public operation needs no token.

    Litestar writes the guard's requirement at the root of the document, where it holds for the routes that the guard
    excludes, too. It also drops the empty `security` that a route could be given instead.
    https://github.com/litestar-org/litestar/issues/3013, https://github.com/litestar-org/litestar/issues/4016
    Delete when Litestar gives the routes that a guard excludes `security: []`.
    """
    if is_public(handler):
        operation["security"] = []


def drop_litestars_errors(operation: Node, handler: HTTPRouteHandler) -> None:
    """Drop the answers that neither the handler nor the application gives.

    Litestar gives every operation with a parameter or a body a 400 in a form of its own, and no option turns that off;
    this application answers invalid values with 422.
    Not reported: `raises_validation_error` in litestar/_openapi/path_item.py.
    Delete when that answer can be turned off, or replaced for the whole application.
    """
    own = {str(status) for status in (handler.status_code, *(handler.responses or {}))}
    operation["responses"] = {status: answer for status, answer in operation["responses"].items() if status in own}


def shorten_descriptions(operation: Node, _handler: HTTPRouteHandler) -> None:
    """Describe an answer by the phrase of its status, "Created" say.

    Litestar takes Python's sentence on the status, "Document created, URL follows" say, unless each handler brings its
    own text. Not reported: `create_description` in litestar/_openapi/responses.py.
    Delete when the default can be set, or is the phrase.
    """
    for status, answer in operation["responses"].items():
        if answer["description"] == HTTPStatus(int(status)).description:
            answer["description"] = phrase(int(status))


def drop_null_bodies(operation: Node, _handler: HTTPRouteHandler) -> None:
    """Give an answer without a body no content.

    Litestar describes the body of a `Response[None]` as a JSON null.
    https://github.com/litestar-org/litestar/issues/4598
    Delete when that is closed.
    """
    for answer in operation["responses"].values():
        contents = answer.get("content", {}).values()
        if contents and all(content["schema"] == NULL for content in contents):
            del answer["content"]


def drop_null(operation: Node, _handler: HTTPRouteHandler) -> None:
    """Leave null out of parameters and bodies, of which no request and no answer has one.

    Litestar reads the None of a type as a null that is sent. In a parameter's type it stands for one that is absent, in
    a returned one for another status without a body, 304 say.
    https://github.com/litestar-org/litestar/issues/2730, closed as intended.
    Delete when Litestar leaves it out of parameters, and no handler returns `Response[X | None]`.
    """
    bodies = [body for answer in operation["responses"].values() for body in answer.get("content", {}).values()]
    for node in (*operation.get("parameters", []), *bodies):
        node["schema"] = without_null(node["schema"])


def without_null(schema: Node) -> Node:
    """Return the one alternative to null, where a schema has these two; else the schema."""
    parts: list[Node] = [part for part in schema.get("oneOf", []) if part != NULL]
    if len(parts) != 1:
        return schema
    return parts[0] | {name: value for name, value in schema.items() if name != "oneOf"}


def restore_integers(operation: Node, _handler: HTTPRouteHandler) -> None:
    """Write the bounds of integers as integers.

    Litestar turns them into floats, `"maximum": 100.0` say, and those above 2^53 thereby into other numbers.
    Not reported: litestar/_openapi/schema_generation/constrained_fields.py.
    Delete when `create_numerical_constrained_field_schema` there leaves them as they are.
    """
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        if schema.get("type") == "integer":
            schema |= {bound: int(schema[bound]) for bound in ("minimum", "maximum") if bound in schema}


def type_headers(operation: Node, _handler: HTTPRouteHandler) -> None:
    """Say that the headers of an answer are strings.

    Litestar takes a header's schema from its value, which a header that is only documented lacks. OpenAPI wants a
    schema, or content, of every header.
    Not reported: `set_success_response_headers` in litestar/_openapi/responses.py.
    Delete when Litestar gives every header a schema.
    """
    for answer in operation["responses"].values():
        for header in answer.get("headers", {}).values():
            header.setdefault("schema", {"type": "string"})


def sort_headers(operation: Node, _handler: HTTPRouteHandler) -> None:
    """Put the headers of an answer into one order, so that the document is the same on every start.

    Litestar keeps them in a set. Not reported: `resolve_response_headers` in litestar/handlers/http_handlers/base.py.
    (That of schemas was, and is mended: https://github.com/litestar-org/litestar/issues/3059.)
    Delete when that method returns a sequence.
    """
    for answer in operation["responses"].values():
        answer["headers"] = dict(sorted(answer.get("headers", {}).items()))


def describe_schemes(document: Node, _handlers: Iterable[HTTPRouteHandler]) -> None:
    """Leave an OAuth2 scheme the fields that OpenAPI lets it have.

    Litestar's has those of other kinds of schemes, too: `scheme`, `name`, `in` and `bearerFormat`.
    https://github.com/litestar-org/litestar/pull/4834. Delete when that is merged.
    """
    schemes = document["components"]["securitySchemes"]
    for name, scheme in schemes.items():
        schemes[name] = {key: scheme[key] for key in ("type", "description", "flows")}


def describe_structs(document: Node, handlers: Iterable[HTTPRouteHandler]) -> None:
    """Describe the Structs as msgspec does, instead of as Litestar does.

    Litestar leaves out their docstrings, `extra_json_schema`, and that unknown fields are forbidden; it also rounds the
    bounds of integers.
    https://github.com/litestar-org/litestar/issues/4575, https://github.com/litestar-org/litestar/issues/3997
    Delete when Litestar uses `msgspec.json.schema_components`, or says as much as that does.
    """
    litestars = document["components"]["schemas"]
    _, structs = msgspec.json.schema_components(struct_types(handlers), ref_template="#/components/schemas/{name}")
    for name, struct in structs.items():
        add_formats(struct, litestars.get(name, {}))
    document["components"]["schemas"] = dict(sorted(structs.items()))


def struct_types(handlers: Iterable[HTTPRouteHandler]) -> Sequence[Any]:
    """Return the types that go over the wire: what handlers take, return, and answer errors with."""
    return [Problem, OAuthProblem, *(kind for handler in handlers for kind in types_of(handler))]


def types_of(handler: HTTPRouteHandler) -> Iterator[Any]:
    """Yield what one handler returns, answers errors with, and takes."""
    returned = handler.parsed_fn_signature.return_type
    yield returned.inner_types[0].annotation if returned.is_subclass_of(Response) else returned.annotation
    yield from (spec.data_container for spec in (handler.responses or {}).values())
    if handler.parsed_data_field:
        yield handler.parsed_data_field.annotation
    if FORM_KEY in handler.opt:
        yield handler.opt[FORM_KEY]


def add_formats(struct: Node, litestars: Node) -> None:
    """Give times their format, `date-time`, which Litestar has.

    msgspec gives it only to fields whose times must have a zone (`Meta(tz=True)`), by design, since RFC 3339 knows no
    others: `DateTimeType` in msgspec/_json_schema.py. All times of this service have one.
    Delete when every time in a Struct is marked so.
    """
    known = litestars.get("properties", {})
    for name, field in struct.get("properties", {}).items():
        if "format" in known.get(name, {}):
            field.setdefault("format", known[name]["format"])


def type_choices(document: Node, _handlers: Iterable[HTTPRouteHandler]) -> None:
    """Say that a choice of strings is a string.

    msgspec writes the values of a Literal, and no type. Not reported: `LiteralType` in msgspec/_json_schema.py.
    Delete when msgspec writes the type.
    """
    for struct in document["components"]["schemas"].values():
        for field in struct.get("properties", {}).values():
            if all(isinstance(value, str) for value in field.get("enum", [None])):
                field.setdefault("type", "string")


def extend_structs(document: Node, handlers: Iterable[HTTPRouteHandler]) -> None:
    """Add what a Struct's `more_json_schema` says of it as a whole.

    msgspec has `Meta(extra_json_schema=...)` for fields alone. https://github.com/msgspec/msgspec/issues/689
    Delete when a Struct can have one, too.
    """
    for kind in struct_types(handlers):
        if more := getattr(kind, "more_json_schema", None):
            document["components"]["schemas"][kind.__name__] |= more


OPERATION_REPAIRS: Sequence[OperationChange] = [
    open_public,
    drop_litestars_errors,
    shorten_descriptions,
    drop_null_bodies,
    drop_null,
    restore_integers,
    type_headers,
    sort_headers,
]
DOCUMENT_REPAIRS: Sequence[DocumentChange] = [describe_schemes, describe_structs, type_choices, extend_structs]
