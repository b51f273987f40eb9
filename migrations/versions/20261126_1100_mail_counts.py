"""Counts of the mails that each mailbox gets.

Revision ID: 0d4b7f2a96ce
Revises: 5e9a0c3d71b4
Create Date: 2026-11-26 11:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0d4b7f2a96ce"
down_revision = "5e9a0c3d71b4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "mail_counts",
        sa.Column("name", sa.LargeBinary(length=16), nullable=False),
        sa.Column("times", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_mail_counts")),
    )
    op.create_index(op.f("ix_mail_counts_expires_at"), "mail_counts", ["expires_at"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_index(op.f("ix_mail_counts_expires_at"), table_name="mail_counts")
    op.drop_table("mail_counts")
