"""When a session last wrote, for those who read from replicas.

Revision ID: c41d7e05b8a3
Revises: 7b3f6a1c9e82
Create Date: 2026-11-24 10:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "c41d7e05b8a3"
down_revision = "7b3f6a1c9e82"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("sessions", sa.Column("wrote_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("sessions", "wrote_at")
