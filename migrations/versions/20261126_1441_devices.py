"""Tokens of applications' own, and devices that wait to be let in.

Revision ID: 9a47d3f0b16e
Revises: 5c1e8a7d2f40
Create Date: 2026-11-26 14:41:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "9a47d3f0b16e"
down_revision = "5c1e8a7d2f40"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "client_tokens",
        sa.Column("id", BIG_INT, autoincrement=False, nullable=False),
        sa.Column("client_row_id", BIG_INT, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        reference("client_tokens", "client_row_id", "oauth_clients"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_tokens")),
    )
    create_devices()
    for table, columns in INDEXES.items():
        for column in columns:
            op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)


INDEXES = {
    "client_tokens": ("client_row_id", "expires_at"),
    "device_codes": ("client_row_id", "grant_id", "approved_in", "expires_at"),
}


def create_devices() -> None:
    """Create the table of devices."""
    op.create_table(
        "device_codes",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("user_code", sa.String(length=8), nullable=False),
        sa.Column("client_row_id", BIG_INT, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("is_allowed", sa.Boolean(), nullable=True),
        sa.Column("grant_id", BIG_INT, nullable=True),
        sa.Column("approved_in", BIG_INT, nullable=True),
        sa.Column("amr", sa.Text(), nullable=True),
        sa.Column("authenticated_at", TIME, nullable=True),
        sa.Column("interval", BIG_INT, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        reference("device_codes", "client_row_id", "oauth_clients"),
        reference("device_codes", "grant_id", "oauth_grants"),
        reference("device_codes", "approved_in", "sessions"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_device_codes")),
        sa.UniqueConstraint("user_code", name=op.f("uq_device_codes_user_code")),
    )


def reference(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    """Return the reference to a row of another table, with which the row goes."""
    return sa.ForeignKeyConstraint(
        [column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"), ondelete="CASCADE"
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("device_codes")
    op.drop_table("client_tokens")
