"""Security events.

Revision ID: 5b1d9e7730f4
Revises: 4e1a90c7d53b
Create Date: 2026-11-26 14:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "5b1d9e7730f4"
down_revision = "4e1a90c7d53b"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ON_ANOTHER = sa.text("coalesce(user_id, 0) <> actor_id")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "events",
        sa.Column("id", BIG_INT, sa.Identity(always=False), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("user_id", BIG_INT, nullable=True),
        sa.Column("actor_id", BIG_INT, nullable=True),
        sa.Column("client_id", sa.String(length=255), nullable=True),
        sa.Column("session_id", BIG_INT, nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("device", sa.String(length=256), nullable=True),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_created_at_id"), "events", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_events_user_id_created_at_id"), "events", ["user_id", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_events_type_created_at_id"), "events", ["type", "created_at", "id"], unique=False)
    op.create_index(
        op.f("ix_events_actor_id"),
        "events",
        ["actor_id"],
        unique=False,
        postgresql_where=ON_ANOTHER,
        sqlite_where=ON_ANOTHER,
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("events")
