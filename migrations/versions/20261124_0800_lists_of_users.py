"""Orders and search of users.

Revision ID: 5d2e9c8b4f71
Revises: 9e5a3b7d1c64
Create Date: 2026-11-24 08:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "5d2e9c8b4f71"
down_revision = "9e5a3b7d1c64"
branch_labels = None
depends_on = None

SEARCHED = ("username_key", "email_key")


def upgrade() -> None:
    """Apply."""
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("users", "username", type_=sa.String(64, collation="C"))
        for name in SEARCHED:
            op.create_index(
                f"ix_users_{name}_search",
                "users",
                [name],
                postgresql_using="gin",
                postgresql_ops={name: "gin_trgm_ops"},
            )
    op.create_index("ix_users_username_id", "users", ["username", "id"])
    op.create_index("ix_users_created_at_id", "users", ["created_at", "id"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_users_created_at_id", "users")
    op.drop_index("ix_users_username_id", "users")
    if op.get_context().dialect.name == "postgresql":
        for name in SEARCHED:
            op.drop_index(f"ix_users_{name}_search", "users")
        op.alter_column("users", "username", type_=sa.String(64))
