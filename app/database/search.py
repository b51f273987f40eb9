"""Search in text: each word a substring, in any case, on either database alike.

Databases fold case by their locale, and SQLite folds ASCII alone. So a table keeps its searched text in a column that
is folded here, as the words of a search are.
"""

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, bindparam, or_, text

from app.database.sessions import Reading
from app.errors import InvalidField, InvalidFields

MAX_TERMS = 10
ESCAPE = "/"
WILDCARDS = re.compile(f"([%_{ESCAPE}])")
PLAN_BY_VALUES = text("SET LOCAL plan_cache_mode = force_custom_plan")


def searchable(*texts: str | None) -> str:
    """Return the text that a search looks at; no term reaches from one text into the next, as none has a line break."""
    return "\n".join(text.casefold() for text in texts if text)


def terms_of(q: str) -> tuple[str, ...]:
    """Return the words of a search, folded, each once. Raise InvalidFields when there are more than MAX_TERMS."""
    terms = tuple(dict.fromkeys(q.casefold().split()))
    if len(terms) > MAX_TERMS:
        raise InvalidFields(InvalidField("/q", f"must have at most {MAX_TERMS} words"))
    return terms


def matches(columns: Sequence[ColumnElement[str]], terms: int) -> list[ColumnElement[bool]]:
    """Return the conditions of a search for so many terms: each is in one of the folded columns."""
    return [
        or_(*(column.like(bindparam(f"term_{number}"), escape=ESCAPE) for column in columns)) for number in range(terms)
    ]


def patterns(terms: Sequence[str]) -> dict[str, str]:
    """Return the parameters of those conditions; wildcards stand for themselves."""
    escaped = [WILDCARDS.sub(ESCAPE + r"\1", term) for term in terms]
    return {f"term_{number}": f"%{term}%" for number, term in enumerate(escaped)}


async def plan_by_values(session: Reading) -> None:
    """Have PostgreSQL plan what follows for the values at hand, in a transaction that lasts as long as the session.

    How many rows hold a term decides whether its trigrams or the list's own order finds them sooner. A plan for any
    term, which a prepared statement gets after a few uses, takes seconds where the right one takes a millisecond.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.connection(execution_options={"isolation_level": "READ COMMITTED"})
        await session.execute(PLAN_BY_VALUES)
