"""Search in text: rows that contain every word of a query, in any case and Unicode form, on both databases alike.

PostgreSQL folds case by its locale, SQLite folds ASCII only, and neither takes a letter and its accent for the letter
that has one. So a table has a column for its searched text, which is folded here, as are the words of a query.
"""

import re
import unicodedata
from collections.abc import Sequence

from sqlalchemy import ColumnElement, bindparam, or_, text

from app.database.sessions import Reading
from app.errors import InvalidField, InvalidFields

MAX_TERMS = 10
ESCAPE = "/"
WILDCARDS = re.compile(f"([%_{ESCAPE}])")
# Reordering many accents on one letter takes time by the square of their number: half a second for 10,000. So a text is
# folded in pieces. A piece ends where nothing joins two letters: marks and the parts of Korean syllables stay together.
PIECES = re.compile(r".{1,100}(?:[^\w\s]|[\u1160-\u11ff]){0,50}", re.DOTALL)
PLAN_FOR_VALUES = text("SET LOCAL plan_cache_mode = force_custom_plan")


def searchable(*texts: str | None) -> str:
    """Return the folded text that a search compares; line breaks part the texts, so that no term matches across two."""
    return "\n".join(fold(text) for text in texts if text)


def fold(text: str) -> str:
    """Return a text as a search compares it: case and Unicode form make no difference (Unicode, D145)."""
    if text.isascii():
        return text.casefold()
    return "".join(unicodedata.normalize("NFC", decomposed(piece).casefold()) for piece in PIECES.findall(text))


def decomposed(text: str) -> str:
    """Return a text with its letters and accents apart."""
    return unicodedata.normalize("NFD", text)


def search_terms(q: str) -> tuple[str, ...]:
    """Return the words of a query, folded, each once. Raise InvalidFields when there are more than MAX_TERMS."""
    terms = tuple(dict.fromkeys(fold(q).split()))
    if len(terms) > MAX_TERMS:
        raise InvalidFields(InvalidField("/q", f"must have at most {MAX_TERMS} words"))
    return terms


def search_conditions(columns: Sequence[ColumnElement[str]], terms: int) -> list[ColumnElement[bool]]:
    """Return the conditions of a search: each of `terms` many terms is a substring of one of the folded columns."""
    return [
        or_(*(column.like(bindparam(f"term_{number}"), escape=ESCAPE) for column in columns)) for number in range(terms)
    ]


def search_parameters(terms: Sequence[str]) -> dict[str, str]:
    """Return the parameters of the search conditions, in which LIKE's wildcards are escaped."""
    escaped = [WILDCARDS.sub(ESCAPE + r"\1", term) for term in terms]
    return {f"term_{number}": f"%{term}%" for number, term in enumerate(escaped)}


async def plan_for_values(session: Reading) -> None:
    """Have PostgreSQL plan the session's statements for their actual values, in a transaction until the session ends.

    For a rare term the index of trigrams is fastest, for a common one the index of the order. The generic plan that a
    prepared statement gets after a few uses can take seconds where the right one takes a millisecond.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        await session.execute(PLAN_FOR_VALUES)
