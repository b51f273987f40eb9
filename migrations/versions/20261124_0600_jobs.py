"""Jobs.

Revision ID: 2b7e4c9a6f10
Revises: 8a3d5e7c1b02
Create Date: 2026-11-24 06:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "2b7e4c9a6f10"
down_revision = "8a3d5e7c1b02"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "jobs",
        sa.Column("id", BIG_INT, sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", BIG_INT, nullable=False),
        sa.Column("key", sa.String(200), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(100), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("key", name="uq_jobs_key"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_jobs_run_at",
        "jobs",
        ["run_at"],
        postgresql_where=sa.text("failed_at IS NULL"),
        sqlite_where=sa.text("failed_at IS NULL"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("jobs")
