"""Items.

Revision ID: 8a3d5e7c1b02
Revises: 6f1c2a9b4d01
Create Date: 2026-11-24 05:01:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "8a3d5e7c1b02"
down_revision = "6f1c2a9b4d01"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "items",
        sa.Column("id", BIG_INT, sa.Identity(always=False), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("description", sa.String(10_000), nullable=True),
        sa.Column("owner_id", BIG_INT, nullable=False),
        sa.Column("version", BIG_INT, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_items_owner_id_users", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_items_owner_id_id", "items", ["owner_id", "id"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("items")
