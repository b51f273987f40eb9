"""How the sign-in of a session was proved, and when.

Revision ID: 4e1a90c7d53b
Revises: 8d2f6b19ce07
Create Date: 2026-11-26 14:20:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "4e1a90c7d53b"
down_revision = "8d2f6b19ce07"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Sessions that are there, or that the release before still opens, were proved when they began."""
    op.add_column("sessions", sa.Column("amr", sa.Text(), server_default="pwd", nullable=False))
    op.add_column("sessions", sa.Column("authenticated_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("sessions", "authenticated_at")
    op.drop_column("sessions", "amr")
