"""Orders and search of items.

Revision ID: 4c1d8f2e7a35
Revises: 2b7e4c9a6f10
Create Date: 2026-11-24 07:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "4c1d8f2e7a35"
down_revision = "2b7e4c9a6f10"
branch_labels = None
depends_on = None

ROWS_AT_ONCE = 1000
items = sa.table(
    "items",
    sa.column("id", sa.BigInteger()),
    sa.column("title", sa.String()),
    sa.column("description", sa.String()),
    sa.column("search_text", sa.Text()),
)


def upgrade() -> None:
    """Apply."""
    op.add_column("items", sa.Column("search_text", sa.Text(), server_default="", nullable=False))
    fold_texts()
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("items", "search_text", server_default=None)
        op.alter_column("items", "title", type_=sa.String(200, collation="C"))
        # Trusted since PostgreSQL 13: the owner of the database may create it.
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.create_index(
            "ix_items_search_text",
            "items",
            ["search_text"],
            postgresql_using="gin",
            postgresql_ops={"search_text": "gin_trgm_ops"},
        )
    op.create_index("ix_items_owner_id_updated_at_id", "items", ["owner_id", "updated_at", "id"])
    op.create_index("ix_items_owner_id_title_id", "items", ["owner_id", "title", "id"])


def fold_texts() -> None:
    """Fill the new column of the rows that are there, as the service fills it from now on."""
    connection = op.get_bind()
    fold = items.update().where(items.c.id == sa.bindparam("row")).values(search_text=sa.bindparam("text"))
    last = 0
    while rows := connection.execute(
        sa.select(items).where(items.c.id > last).order_by(items.c.id).limit(ROWS_AT_ONCE)
    ).all():
        texts = [{"row": row.id, "text": folded(row.title, row.description)} for row in rows]
        connection.execute(fold, texts)
        last = rows[-1].id


def folded(*texts: str | None) -> str:
    """Return the texts with their case folded, each on a line of its own."""
    return "\n".join(text.casefold() for text in texts if text)


def downgrade() -> None:
    """Take back; the extension stays, since others may use it."""
    op.drop_index("ix_items_owner_id_title_id", "items")
    op.drop_index("ix_items_owner_id_updated_at_id", "items")
    if op.get_context().dialect.name == "postgresql":
        op.drop_index("ix_items_search_text", "items")
        op.alter_column("items", "title", type_=sa.String(200))
    op.drop_column("items", "search_text")
