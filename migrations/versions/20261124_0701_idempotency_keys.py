"""Idempotency keys.

Revision ID: 9e5a3b7d1c64
Revises: 4c1d8f2e7a35
Create Date: 2026-11-24 07:01:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "9e5a3b7d1c64"
down_revision = "4c1d8f2e7a35"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", BIG_INT, nullable=False),
        sa.Column("request", sa.LargeBinary(32), nullable=False),
        sa.Column("content", sa.LargeBinary(32), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "request", name="pk_idempotency_keys"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_idempotency_keys_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("idempotency_keys")
