"""Signing keys.

Revision ID: 3f71c0a95be2
Revises: 5b1d9e7730f4
Create Date: 2026-11-26 14:50:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "3f71c0a95be2"
down_revision = "5b1d9e7730f4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(length=43), nullable=False),
        sa.Column("algorithm", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("encrypted", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signs_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("token_seconds", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
        sa.UniqueConstraint("algorithm", "number", name=op.f("uq_signing_keys_algorithm_number")),
    )


def downgrade() -> None:
    """Take back. Access tokens that were signed by these keys are refused and refreshed."""
    op.drop_table("signing_keys")
