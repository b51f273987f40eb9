"""Searched text of items in one Unicode form.

Revision ID: c7a2e5f0913d
Revises: 93e1c5d8a24b
Create Date: 2026-11-26 11:30:00+00:00
"""

import re
import unicodedata

import sqlalchemy as sa
from alembic import op

from app.database.progress import progress

revision = "c7a2e5f0913d"
down_revision = "93e1c5d8a24b"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ITEMS = sa.table(
    "items",
    sa.column("id", BIG_INT),
    sa.column("title", sa.String()),
    sa.column("description", sa.String()),
    sa.column("search_text", sa.Text()),
)
ROWS_AT_ONCE = 1000
PIECES = re.compile(r".{1,100}(?:[^\w\s]|[\u1160-\u11ff]){0,50}", re.DOTALL)


def upgrade() -> None:
    """Apply."""
    connection = op.get_bind()
    fold = ITEMS.update().where(ITEMS.c.id == sa.bindparam("row")).values(search_text=sa.bindparam("text"))
    last = 0
    items = connection.execute(sa.select(sa.func.count()).select_from(ITEMS)).scalar_one()
    with progress("searched texts", items) as advance:
        while rows := connection.execute(
            sa.select(ITEMS).where(ITEMS.c.id > last).order_by(ITEMS.c.id).limit(ROWS_AT_ONCE)
        ).all():
            last = rows[-1].id
            folded = [(row, searchable(row.title, row.description)) for row in rows if not row.search_text.isascii()]
            changed = [{"row": row.id, "text": text} for row, text in folded if text != row.search_text]
            if changed:
                connection.execute(fold, changed)
            advance(len(rows))


def searchable(*texts: str | None) -> str:
    """Return the texts, folded, each on a line of its own, as the service does from now on."""
    return "\n".join("".join(map(folded, PIECES.findall(text))) for text in texts if text)


def folded(piece: str) -> str:
    """Return a text of which others are equal that differ in case and Unicode form only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", piece).casefold())


def downgrade() -> None:
    """Take back. The text stays: for the release before it is as good as its own."""
