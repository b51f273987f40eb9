"""Keys of addresses by IDNA, versions of addresses, and repeats of refreshes.

Revision ID: 5e9a0c3d71b4
Revises: c41d7e05b8a3
Create Date: 2026-11-26 07:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

from app.database.progress import progress

revision = "5e9a0c3d71b4"
down_revision = "c41d7e05b8a3"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
USERS = sa.table("users", sa.column("id", BIG_INT), sa.column("email", sa.String), sa.column("email_key", sa.String))
ROWS_AT_ONCE = 1000


def upgrade() -> None:
    """Apply."""
    op.add_column("users", sa.Column("email_version", BIG_INT, server_default="0", nullable=False))
    op.add_column("sessions", sa.Column("repeats", BIG_INT, server_default="0", nullable=False))
    connection = op.get_bind()
    last = 0
    users = connection.execute(sa.select(sa.func.count()).select_from(USERS)).scalar_one()
    with progress("keys of addresses", users) as advance:
        while rows := connection.execute(
            sa.select(USERS.c.id, USERS.c.email).where(USERS.c.id > last).order_by(USERS.c.id).limit(ROWS_AT_ONCE)
        ).all():
            last = rows[-1].id
            for row in rows:
                # Keys of others stay as they are.
                if not row.email.isascii():
                    connection.execute(sa.update(USERS).where(USERS.c.id == row.id).values(email_key=key_of(row.email)))
            advance(len(rows))


def key_of(address: str) -> str:
    """Return an address with the case of its local part folded."""
    local_part, _, domain = address.rpartition("@")
    return f"{local_part.casefold()}@{domain}"


def downgrade() -> None:
    """Take back. The keys stay: the release before compares them with others' only."""
    op.drop_column("sessions", "repeats")
    op.drop_column("users", "email_version")
