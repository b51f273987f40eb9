"""The order of an owner's items by id.

Revision ID: 7b3f6a1c9e82
Revises: 5d2e9c8b4f71
Create Date: 2026-11-24 09:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "7b3f6a1c9e82"
down_revision = "5d2e9c8b4f71"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.drop_index("ix_items_owner_id_id", "items")
    op.create_index("ix_items_owner_id_id", "items", ["owner_id", sa.text("(id + 0)")])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_items_owner_id_id", "items")
    op.create_index("ix_items_owner_id_id", "items", ["owner_id", "id"])
