"""Checks of a request before its handler runs: strict JSON, known query parameters, canonical ids."""

import re
from collections import Counter
from collections.abc import Collection, Container, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias, TypeVar, get_args
from urllib.parse import parse_qsl

import msgspec
from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import SkipValidation
from litestar.routes import HTTPRoute
from litestar.types import Empty
from msgspec import UNSET, Struct, UnsetType
from msgspec.inspect import BoolType, IntType, Metadata, NoneType, StrType, Type, UnionType, type_info
from msgspec.structs import FieldInfo

from app.database.sessions import Transaction
from app.errors import BadRequest, InvalidField, InvalidFields, NotFound, UnsupportedMediaType
from app.http.access import is_lenient

StructT = TypeVar("StructT", bound=Struct)
Value = TypeVar("Value")
Provided: TypeAlias = NamedDependency[SkipValidation[Value]]
"""The type of an argument that a handler is given by its name, by its feature say."""
InTransaction = Provided[Transaction]
"""The type of a handler's `transaction`, which commits when the handler has returned, and before the answer starts."""

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
"""The methods of requests that only read (RFC 9110, section 9.2.1)."""
MAX_ID = 2**63 - 1
MAX_UNKNOWN_FIELDS = 20
"""The most unknown fields, or parameters, that an answer names: it needn't outgrow the question."""
MAX_MEMBERS = 2000
"""The most members of a body that are all looked at, if only for their names; colons in texts are counted, too."""
MAX_QUERY_BYTES = 8 * 1024
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
QUERY_PARAMETERS = "query_parameters"
CHOICES_KEY = "choices"
MOMENT = (
    r"(19[7-9]|2[0-9]{2})[0-9]-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
"""The syntax of a moment (RFC 3339) with its zone, in years that all databases and drivers know."""
# Numbers and booleans have one form each. No text may have NUL, which PostgreSQL can neither store nor compare.
CANONICAL_VALUES: Mapping[object, re.Pattern[str]] = {
    int: re.compile(r"(0|-?[1-9][0-9]*)\Z"),
    bool: re.compile(r"(true|false)\Z"),
    datetime: re.compile(rf"{MOMENT}\Z"),
}
CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)')
LONGEST_MEDIA_TYPE = 255
ANY_VALUE = re.compile(r"[^\0]*\Z")


class InvalidJSON(BadRequest):
    """The body isn't JSON, or is nested deeper than anybody needs."""

    detail = "The body is not valid JSON"


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded in one pass, strictly, into the handler's own Struct."""

    async def json(self) -> object:
        """Return the body as the handler's Struct. Raise InvalidJSON and InvalidFields."""
        if self._json is Empty:
            field = self.route_handler.parsed_data_field
            self._json = decode(await self.body(), field.annotation if field else Struct)
        return self._json


@lru_cache
def decoder(struct: type[Struct]) -> msgspec.json.Decoder[Any]:
    """Return the one decoder of a type, which is made at its first use."""
    return msgspec.json.Decoder(struct)


def decode(body: bytes, struct: type[StructT]) -> StructT:
    """Return a JSON body as a Struct. Raise InvalidJSON and InvalidFields."""
    try:
        decoded: StructT = decoder(struct).decode(body)
    except msgspec.ValidationError:
        raise InvalidFields(*invalid_fields(body, struct)) from None
    except NOT_JSON:
        raise InvalidJSON from None
    return decoded


def invalid_fields(body: bytes, struct: type[Struct]) -> list[InvalidField]:
    """Return all invalid fields of a body, where the decoder names only the first one. Raise InvalidJSON.

    What isn't looked at is only checked to be JSON: to make objects of a body of 1 MiB takes ten times as long.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    try:
        body.decode()
        members, errors = known_members(body, struct) if body.count(b":") > MAX_MEMBERS else all_members(body, fields)
        errors += wrong_members(members, fields)
    except msgspec.ValidationError:
        check_json(body)
        return [InvalidField("", "must be an object")]
    except NOT_JSON:
        raise InvalidJSON from None
    return sorted(errors, key=lambda error: error.pointer)


def all_members(body: bytes, fields: Container[str]) -> tuple[Mapping[str, msgspec.Raw], list[InvalidField]]:
    """Return the members of an object, each left as it is, and the first ones that are no fields."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    unknown = islice((name for name in members if name not in fields), MAX_UNKNOWN_FIELDS)
    return members, [InvalidField(pointer(name), "is unknown") for name in unknown]


def known_members(body: bytes, struct: type[Struct]) -> tuple[Mapping[str, msgspec.Raw], list[InvalidField]]:
    """Return the members of an object that are fields, each left as it is, and one error for all others."""
    found = members_decoder(struct).decode(body)
    members = {name: value for name, value in msgspec.structs.asdict(found).items() if value is not UNSET}
    return members, [InvalidField("", "has too many members")]


@lru_cache
def members_decoder(struct: type[Struct]) -> msgspec.json.Decoder[Any]:
    """Return the decoder of the members that a type knows: each is left as it is, and UNSET where there is none."""
    names = [field.encode_name for field in msgspec.structs.fields(struct)]
    return msgspec.json.Decoder(msgspec.defstruct("Members", [(name, msgspec.Raw, UNSET) for name in names]))


def wrong_members(members: Mapping[str, msgspec.Raw], fields: Mapping[str, FieldInfo]) -> list[InvalidField]:
    """Return the fields that are missing, and those whose value has another type or is out of bounds."""
    errors = []
    for name, field in fields.items():
        if name in members and not fits(members[name], field.type):
            errors.append(InvalidField(pointer(name), "must be " + describe_type(type_info(field.type))))
        elif name not in members and field.required:
            errors.append(InvalidField(pointer(name), "is required"))
    return errors


def fits(value: msgspec.Raw, annotation: Any) -> bool:  # noqa: ANN401 - a field's type
    """Return whether a value has the type of a field, and is within its bounds."""
    try:
        msgspec.json.decode(value, type=annotation)
    except msgspec.ValidationError:
        return False
    return True


def check_json(body: bytes) -> None:
    """Raise InvalidJSON unless a body is JSON of any kind."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except NOT_JSON:
        raise InvalidJSON from None


def pointer(name: str) -> str:
    """Return the JSON pointer (RFC 6901) to a member of the body."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def describe_type(kind: Type) -> str:  # noqa: PLR0911 - one for each kind of type
    """Return a type in words for the client; Meta's `extra` may add the syntax of a string (`{"syntax": ...}`)."""
    match kind:
        case Metadata(type=inner, extra=extra):
            return describe_type(inner) + (f" ({extra['syntax']})" if extra else "")
        case UnionType(types=kinds):
            return " or ".join(describe_type(part) for part in kinds if part != type_info(UnsetType))
        case StrType(min_length=low, max_length=high):
            return f"a string of {low or 0} to {high} characters" if high else "a string"
        case IntType(ge=low, le=high):
            return f"an integer from {low} to {high}" if high else "an integer"
        case BoolType():
            return "true or false"
        case NoneType():
            return "null"
    return "valid"


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Check a request before its handler runs. Raise NotFound, BadRequest, InvalidFields and UnsupportedMediaType.

    This is no guard of Litestar's, for which Litestar copies the handler at each request. It is asynchronous although
    it waits for nothing, since Litestar runs a synchronous one in a thread.
    """
    # Not reported: `authorize_connection` in litestar/handlers/base.py. Litestar 3 copies no handlers.
    handler = request.route_handler
    if request.path_params:
        check_ids(request)
    if not is_lenient(handler):
        if query := request.scope["query_string"]:
            check_query(query, handler.opt[QUERY_PARAMETERS])
        if handler.parsed_fn_signature.parameters.get("data"):
            check_media_type(request.headers)


def check_ids(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Raise NotFound unless the path's ids are from 1 to MAX_ID, without sign, leading zero, space or other digits."""
    segments = connection.scope["path"].split("/")
    for value in connection.path_params.values():
        if isinstance(value, int) and not (1 <= value <= MAX_ID and str(value) in segments):
            raise NotFound("There is nothing at this path")


def check_query(query: bytes, known: Mapping[str, re.Pattern[str]]) -> None:
    """Raise BadRequest for a query that isn't UTF-8, InvalidFields for unknown, repeated and malformed parameters."""
    if len(query) > MAX_QUERY_BYTES:
        raise InvalidFields(InvalidField("", "the query is too long"))
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("The query is not valid UTF-8") from None
    count = Counter(name for name, _ in pairs)
    unknown = islice((name for name in count if name not in known), MAX_UNKNOWN_FIELDS)
    errors = [InvalidField(pointer(name), "is unknown") for name in unknown]
    errors += [InvalidField(pointer(name), "is repeated") for name in count if name in known and count[name] > 1]
    errors += [
        InvalidField(pointer(name), "is not a valid value")
        for name, value in pairs
        if name in known and not known[name].match(value)
    ]
    if errors:
        raise InvalidFields(*errors)


def check_media_type(headers: Headers) -> None:
    """Raise UnsupportedMediaType unless a body is declared as JSON, which is UTF-8 (RFC 8259), and isn't compressed.

    JSON has no parameters; those that clients add all the same are ignored, but for another charset.
    """
    is_json = media_type(headers) == "application/json"
    if not is_json or not set(CHARSET.findall(headers["content-type"].lower())) <= {"", "utf-8", "utf8"}:
        raise UnsupportedMediaType("The body must be application/json in UTF-8")
    check_coding(headers)


def media_type(headers: Headers) -> str:
    """Return the media type of a body, in lower case and without parameters; it is empty where it is overlong."""
    content_type = headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() if len(content_type) <= LONGEST_MEDIA_TYPE else ""


def check_coding(headers: Headers) -> None:
    """Raise UnsupportedMediaType for a compressed body."""
    if headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
        # RFC 9110, section 15.5.16: the answer says which codings are taken.
        raise UnsupportedMediaType("The body must not be compressed", headers={"Accept-Encoding": "identity"})


def choices(**values: Collection[str]) -> dict[str, object]:
    """Return the option of a route whose query parameters have these values and no others, by the parameter's name.

    The OpenAPI document lists them. They may be added to until the application is made.
    """
    return {CHOICES_KEY: values}


def choices_of(handler: BaseRouteHandler) -> Mapping[str, Collection[str]]:
    """Return the values that a route's query parameters can have, of those that have a choice."""
    found: Mapping[str, Collection[str]] = handler.opt.get(CHOICES_KEY, {})
    return found


def pattern_of(annotation: object, values: Collection[str] | None) -> re.Pattern[str]:
    """Return the pattern of a query parameter's values, by its type, or of the values that it can have."""
    if values is not None:
        return re.compile(rf"({'|'.join(map(re.escape, values))})\Z")
    kinds = [kind for kind in get_args(annotation) or [annotation] if kind is not type(None)]
    return CANONICAL_VALUES.get(kinds[0], ANY_VALUE) if len(kinds) == 1 else ANY_VALUE


def index_query_parameters(app: Litestar) -> None:
    """Store with each handler its query parameters, and the pattern of each one's values, for `check_request`."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, model in route.route_handler_map.values():
                fields = handler.parsed_fn_signature.parameters
                types = {name: field.annotation for name, field in fields.items()}
                chosen = choices_of(handler)
                handler.opt[QUERY_PARAMETERS] = {
                    parameter.field_alias: pattern_of(
                        types.get(parameter.field_name, str), chosen.get(parameter.field_alias)
                    )
                    for parameter in model.expected_query_params
                }


def resolve_one_by_one(app: Litestar) -> None:
    """Have the dependencies of each handler resolved one after the other.

    Litestar starts a task for each of several, which takes some 0.1 ms, and none of ours waits for another.
    Not reported: `resolve_dependencies` in litestar/_kwargs/kwargs_model.py.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for _, model in route.route_handler_map.values():
                model.dependency_batches = [{dependency} for batch in model.dependency_batches for dependency in batch]
