"""API tokens.

Revision ID: 5a1c9e7d30b4
Revises: 3f71c0a95be2
Create Date: 2026-11-26 14:10:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c9e7d30b4"
down_revision = "3f71c0a95be2"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "api_tokens",
        sa.Column("id", BIG_INT, sa.Identity(always=False), nullable=False),
        sa.Column("user_id", BIG_INT, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("hint", sa.String(length=4), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wrote_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_api_tokens_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_tokens_digest")),
        sqlite_autoincrement=True,
    )
    for column in ("user_id", "expires_at"):
        op.create_index(op.f(f"ix_api_tokens_{column}"), "api_tokens", [column], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("api_tokens")
