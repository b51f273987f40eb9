"""Challenges of passkeys are written down when they are spent, and no longer when they are asked for.

The table that goes was in no release, and had nothing that is good for more than five minutes.

Revision ID: 6c20f4e18d97
Revises: 9a47d3f0b16e
Create Date: 2026-11-26 15:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "6c20f4e18d97"
down_revision = "9a47d3f0b16e"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.drop_table("challenges")
    op.create_table(
        "spent_challenges",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_spent_challenges")),
    )
    op.create_index(op.f("ix_spent_challenges_expires_at"), "spent_challenges", ["expires_at"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("spent_challenges")
    op.create_table(
        "challenges",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("session_id", BIG_INT, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_challenges")),
    )
    op.create_index(op.f("ix_challenges_expires_at"), "challenges", ["expires_at"], unique=False)
