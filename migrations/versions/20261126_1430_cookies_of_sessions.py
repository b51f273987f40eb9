"""The digests of the cookies of browsers' sessions.

Revision ID: 4c91e7d05ba2
Revises: 5a1c9e7d30b4
Create Date: 2026-11-26 14:30:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "4c91e7d05ba2"
down_revision = "5a1c9e7d30b4"
branch_labels = None
depends_on = None

HAS_COOKIE = sa.text("cookie_digest IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.add_column("sessions", sa.Column("cookie_digest", sa.LargeBinary(32), nullable=True))
    op.create_index(
        op.f("ix_sessions_cookie_digest"),
        "sessions",
        ["cookie_digest"],
        unique=True,
        postgresql_where=HAS_COOKIE,
        sqlite_where=HAS_COOKIE,
    )


def downgrade() -> None:
    """Take back. Browsers are signed out."""
    op.execute("DELETE FROM sessions WHERE cookie_digest IS NOT NULL")
    op.drop_index(op.f("ix_sessions_cookie_digest"), table_name="sessions")
    op.drop_column("sessions", "cookie_digest")
