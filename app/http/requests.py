"""Checks of a request before a handler sees it: strict JSON, known query parameters, canonical ids."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.routes import HTTPRoute
from litestar.types import Empty
from msgspec import Struct, UnsetType
from msgspec.inspect import BoolType, IntType, Metadata, NoneType, StrType, Type, UnionType, type_info

from app.database.sessions import Transaction
from app.errors import BadRequest, InvalidField, InvalidFields, NotFound, UnsupportedMediaType
from app.http.access import is_lenient

T = TypeVar("T", bound=Struct)
InTransaction = NamedDependency[SkipValidation[Transaction]]
"""A handler's `transaction`: it commits when the handler has returned, and before the answer starts."""

MAX_ID = 2**63 - 1
MAX_UNKNOWN = 20
"""Of so many unknown fields an answer tells: a body has room for 100,000, which would take half a second to tell."""
QUERY_PARAMETERS = "query_parameters"
# Numbers and booleans are written one way only; no text has NUL, which PostgreSQL can neither store nor compare.
FORMS = {int: re.compile(r"(0|-?[1-9][0-9]*)\Z"), bool: re.compile(r"(true|false)\Z")}
ANY_FORM = re.compile(r"[^\0]*\Z")


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded in one pass, strictly, into the handler's own Struct."""

    async def json(self) -> object:
        """The body as the handler's Struct; raises BadRequest when it is no JSON, InvalidFields when it doesn't fit."""
        if self._json is Empty:
            field = self.route_handler.parsed_data_field
            self._json = decode(await self.body(), field.annotation if field else Struct)
        return self._json


@lru_cache
def decoder(struct: type[Struct]) -> msgspec.json.Decoder[Any]:
    """One decoder a type, made at its first use."""
    return msgspec.json.Decoder(struct)


def decode(body: bytes, struct: type[T]) -> T:
    """Decode a JSON body; raises BadRequest and InvalidFields."""
    try:
        decoded: T = decoder(struct).decode(body)
    except msgspec.ValidationError:
        raise InvalidFields(*invalid_fields(parse(body), struct)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not valid JSON") from None
    return decoded


def parse(body: bytes) -> object:
    """Any JSON as Python objects; raises BadRequest."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not valid JSON") from None


def invalid_fields(raw: object, struct: type[Struct]) -> list[InvalidField]:
    """Every field of the body that is wrong, not just the first one that the decoder met; of unknown ones, a few."""
    if not isinstance(raw, dict):
        return [InvalidField("", "must be an object")]
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    unknown = islice((name for name in raw if name not in fields), MAX_UNKNOWN)
    errors = [InvalidField(pointer(name), "is unknown") for name in unknown]
    for name, field in fields.items():
        if name in raw and not fits(raw[name], field.type):
            errors.append(InvalidField(pointer(name), "must be " + expected(type_info(field.type))))
        elif name not in raw and field.required:
            errors.append(InvalidField(pointer(name), "is required"))
    return sorted(errors, key=lambda error: error.pointer)


def fits(value: object, annotation: object) -> bool:
    """Whether a value has the type and keeps the bounds of a field."""
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return False
    return True


def pointer(name: str) -> str:
    """The JSON pointer (RFC 6901) to a member of the body."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def expected(kind: Type) -> str:  # noqa: PLR0911 - one for each kind of type
    """What a field must be, in words of ours, from its type; `extra` of its Meta may say more (`{"form": ...}`)."""
    match kind:
        case Metadata(type=inner, extra=extra):
            return expected(inner) + (f" ({extra['form']})" if extra else "")
        case UnionType(types=kinds):
            return " or ".join(expected(part) for part in kinds if part != type_info(UnsetType))
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
    """Check what comes with a request, before its handler. Raise NotFound, InvalidFields and UnsupportedMediaType.

    Not a guard of Litestar's, which copies its handler at each request; and asynchronous although it waits for nothing:
    the framework runs others in a thread.
    """
    # Not reported: `authorize_connection` in litestar/handlers/base.py. Litestar 3 copies no handlers.
    handler = request.route_handler
    if request.path_params:
        check_ids(request)
    if not is_lenient(handler):
        if query := request.scope["query_string"]:
            check_query(query, handler.opt[QUERY_PARAMETERS])
        if handler.parsed_fn_signature.parameters.get("data"):
            check_media_type(request.headers.get("content-type", ""))


def check_ids(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Ids are written one way only, without sign, zero, space or digits of other scripts, and fit 64 bits."""
    segments = connection.scope["path"].split("/")
    for value in connection.path_params.values():
        if isinstance(value, int) and not (1 <= value <= MAX_ID and str(value) in segments):
            raise NotFound("There is nothing at this path")


def check_query(query: bytes, known: Mapping[str, re.Pattern[str]]) -> None:
    """Query parameters are UTF-8, known, come once and have the form of their type."""
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("The query is not valid UTF-8") from None
    count = Counter(name for name, _ in pairs)
    errors = [InvalidField(pointer(name), "is unknown") for name in count if name not in known]
    errors += [InvalidField(pointer(name), "is repeated") for name in count if name in known and count[name] > 1]
    errors += [
        InvalidField(pointer(name), "is not a valid value")
        for name, value in pairs
        if name in known and not known[name].match(value)
    ]
    if errors:
        raise InvalidFields(*errors)


def check_media_type(content_type: str) -> None:
    """JSON bodies say that they are JSON, and are UTF-8 (RFC 8259)."""
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in {"", "utf-8"}:
        raise UnsupportedMediaType("The body must be application/json in UTF-8")


def index_query_parameters(app: Litestar) -> None:
    """Write on each handler the query parameters that it takes, and the form of their values, for `check_request`."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, model in route.route_handler_map.values():
                fields = handler.parsed_fn_signature.parameters
                types = {name: field.annotation for name, field in fields.items()}
                handler.opt[QUERY_PARAMETERS] = {
                    parameter.field_alias: FORMS.get(types.get(parameter.field_name, str), ANY_FORM)
                    for parameter in model.expected_query_params
                }
