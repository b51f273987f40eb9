"""Search in text: rows that contain every word of a query, in any case, on both databases alike.

PostgreSQL folds case by its locale, and SQLite folds ASCII only. So a table has a column for its searched text, which
is folded here, as are the words of a query.
"""

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, bindparam, or_, text

from app.database.sessions import Reading
from app.errors import InvalidField, InvalidFields

MAX_TERMS = 10
ESCAPE = "/"
WILDCARDS = re.compile(f"([%_{ESCAPE}])")
PLAN_FOR_VALUES = text("SET LOCAL plan_cache_mode = force_custom_plan")


def searchable(*texts: str | None) -> str:
    """Return the folded text that a search compares; line breaks part the texts, so that no term matches across two."""
    return "\n".join(text.casefold() for text in texts if text)


def search_terms(q: str) -> tuple[str, ...]:
    """Return the words of a query, folded, each once. Raise InvalidFields when there are more than MAX_TERMS."""
    terms = tuple(dict.fromkeys(q.casefold().split()))
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
