"""Former addresses of accounts, which can be put back.

Revision ID: 93e1c5d8a24b
Revises: 0d4b7f2a96ce
Create Date: 2026-11-26 11:10:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "93e1c5d8a24b"
down_revision = "0d4b7f2a96ce"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "former_addresses",
        sa.Column("id", BIG_INT, sa.Identity(always=False), nullable=False),
        sa.Column("user_id", BIG_INT, nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("email_key", sa.String(length=640), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_former_addresses_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_former_addresses")),
        sqlite_autoincrement=True,
    )
    for column in ("user_id", "email_key", "expires_at"):
        op.create_index(op.f(f"ix_former_addresses_{column}"), "former_addresses", [column], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("former_addresses")
