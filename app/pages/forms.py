"""The forms of pages: where they may come from, the token in each, and how their fields are read."""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
from litestar import Request
from msgspec import Struct

from app.auth.controller import read_form
from app.errors import BadRequest, Forbidden, InvalidField, InvalidFields, NotFound, OAuthError
from app.http.requests import decode

FORM_TOKEN = "form_token"  # noqa: S105 - the field's name
NONCE_BYTES = 16
LONGEST_ID = 18
"""Of the digits of an id that every integer of the database can hold."""
OWN_SITES = {"same-origin", "none"}
StructT = TypeVar("StructT", bound=Struct)


class FormRefused(Forbidden):
    """The form doesn't come from a page of this service, or not from one of this sign-in."""

    detail = "This form can't be used any more. Open the page again, and send it from there."


class MissingFields(InvalidFields):
    """Fields are empty that signing in needs; the API has 400 for them (RFC 6749)."""

    status = 400


class FormTokens:
    """The tokens of forms: each is bound to a browser or a session, and no two are alike."""

    def __init__(self, secret: str) -> None:
        self.key = blake2b(secret.encode(), person=b"form tokens").digest()

    def issue(self, subject: str) -> str:
        """Return a token for the forms of a browser or a session."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return urlsafe_b64encode(nonce + self._mac(nonce, subject)).decode()

    def is_valid(self, token: str, subject: str) -> bool:
        """Return whether a token was issued for that browser or session."""
        try:
            raw = urlsafe_b64decode(token.encode("ascii"))
        except ValueError:
            return False
        return hmac.compare_digest(raw[NONCE_BYTES:], self._mac(raw[:NONCE_BYTES], subject))

    def _mac(self, nonce: bytes, subject: str) -> bytes:
        return blake2b(nonce + subject.encode(), key=self.key, digest_size=32).digest()


def check_origin(request: Request[Any, Any, Any], public_origin: str) -> None:
    """Raise FormRefused for a form that a browser says is another site's.

    It may come from the public URL, or from the host that the request names. Browsers that say nothing are left to the
    form's token.
    """
    host = request.headers.get("host", "")
    origins = request.headers.getall("origin", [])
    allowed = {public_origin, f"http://{host}", f"https://{host}"}
    sites = request.headers.getall("sec-fetch-site", [])
    if not set(origins) <= allowed or not set(sites) <= OWN_SITES:
        raise FormRefused


async def read_page_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the fields of a form that aren't empty. Raise BadRequest and UnsupportedMediaType."""
    try:
        return await read_form(request)
    except OAuthError as error:
        raise BadRequest(error.detail) from None


def read_struct(form: Mapping[str, object], struct: type[StructT]) -> StructT:
    """Return the fields of a form as the Struct that the API takes, checked as the API does. Raise InvalidFields."""
    known = {field.encode_name for field in msgspec.structs.fields(struct)}
    return decode(msgspec.json.encode({name: value for name, value in form.items() if name in known}), struct)


def id_in(form: Mapping[str, str], name: str, not_found: type[NotFound]) -> int:
    """Return the id that a field has. Raise `not_found` for anything else."""
    text = form.get(name, "")
    if not (text.isascii() and text.isdecimal()) or len(text) > LONGEST_ID:
        raise not_found
    return int(text)


def required(form: dict[str, str], *names: str) -> list[str]:
    """Return the values of fields. Raise MissingFields, which names those that are empty."""
    missing = [InvalidField(f"/{name}", "is required") for name in names if name not in form]
    if missing:
        raise MissingFields(*missing)
    return [form[name] for name in names]
