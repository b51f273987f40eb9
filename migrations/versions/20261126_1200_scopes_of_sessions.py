"""The scopes to which sessions are narrowed.

Revision ID: 8d2f6b19ce07
Revises: c7a2e5f0913d
Create Date: 2026-11-26 12:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "8d2f6b19ce07"
down_revision = "c7a2e5f0913d"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("sessions", sa.Column("scope", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back. Narrowed sessions end, since the release before would let them do everything."""
    op.execute("DELETE FROM sessions WHERE scope IS NOT NULL")
    op.drop_column("sessions", "scope")
