"""Second factors: secrets of authenticator apps, and recovery codes.

Revision ID: b7c03f58e1d2
Revises: 4c91e7d05ba2
Create Date: 2026-11-26 14:21:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "b7c03f58e1d2"
down_revision = "4c91e7d05ba2"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("users", sa.Column("second_factor", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "totps",
        sa.Column("user_id", BIG_INT, autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(length=256), nullable=False),
        sa.Column("last_step", BIG_INT, nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_totps_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_totps")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", BIG_INT, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_recovery_codes_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "digest", name=op.f("pk_recovery_codes")),
    )


def downgrade() -> None:
    """Take back. The password alone signs in again."""
    op.drop_table("recovery_codes")
    op.drop_table("totps")
    op.drop_column("users", "second_factor")
