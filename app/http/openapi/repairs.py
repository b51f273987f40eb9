"""Repairs of the document that Litestar makes, each a function of its own."""

from http import HTTPStatus
from typing import Any

from app.http.openapi.rules import headers_of
from app.http.requests import MAX_ID


def complete_parameter(parameter: dict[str, Any]) -> None:
    """Say what is checked of every parameter, and name what a client may choose from.

    Litestar turns the bounds of integers into floats; here they are exact.
    """
    schema = parameter["schema"] = without_null(parameter["schema"])
    if "enum" in schema:
        schema["x-enum-varnames"] = [choice_name(value) for value in schema["enum"]]
    elif schema.get("type") == "string" and parameter["in"] == "query":
        schema["pattern"] = r"^[^\x00]*$"
    if schema.get("type") == "integer":
        schema |= {bound: int(schema[bound]) for bound in ("minimum", "maximum") if bound in schema}
        if parameter["in"] == "path":
            schema |= {"minimum": 1, "maximum": MAX_ID, "examples": [1]}


def choice_name(value: str) -> str:
    """What generated clients call a choice of theirs: `-title` is TITLE_DESCENDING."""
    name = value.removeprefix("-").upper()
    return name if value[0] != "-" else f"{name}_DESCENDING"


def complete_answer(status: int, answer: dict[str, Any]) -> None:
    """Give an answer the headers that it always has, and a short description for Litestar's long one."""
    if answer["description"] == HTTPStatus(status).description:
        answer["description"] = HTTPStatus(status).phrase
    for header in answer.setdefault("headers", {}).values():
        header.setdefault("schema", {"type": "string"})
    # Litestar keeps a handler's headers as a set: sorted, the document is the same on every start.
    answer["headers"] = headers_of(status) | dict(sorted(answer["headers"].items()))
    if all(content["schema"] == {"type": "null"} for content in answer.get("content", {}).values()):
        answer.pop("content", None)
    for content in answer.get("content", {}).values():
        content["schema"] = without_null(content["schema"])


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """None stands for an answer without a body, 304 say, or for a parameter that is absent: null is never sent."""
    parts: list[dict[str, Any]] = [part for part in schema.get("oneOf", []) if part != {"type": "null"}]
    if len(parts) != 1:
        return schema
    return parts[0] | {name: value for name, value in schema.items() if name != "oneOf"}


def complete_fields(fields: dict[str, Any], frameworks: dict[str, Any]) -> None:
    """Add what msgspec leaves out: that a Literal is a string, and the format of a datetime."""
    for name, field in fields.items():
        if "enum" in field:
            field.setdefault("type", "string")
        if "format" in frameworks.get(name, {}):
            field.setdefault("format", frameworks[name]["format"])


def oauth2_scheme(scheme: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI lets an OAuth2 scheme have; the framework's has fields of other schemes, and no scopes."""
    password = {"scopes": {}} | scheme["flows"]["password"]
    return {"type": scheme["type"], "description": scheme["description"], "flows": {"password": password}}
