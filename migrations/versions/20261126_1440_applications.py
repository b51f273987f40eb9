"""Applications that sign people in, what people have granted them, and authorization codes.

Revision ID: 5c1e8a7d2f40
Revises: 2f96d0a4c8e7
Create Date: 2026-11-26 14:40:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "5c1e8a7d2f40"
down_revision = "2f96d0a4c8e7"
branch_labels = None
depends_on = None

BIG_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
GRANT_KEY = "fk_sessions_grant_id_oauth_grants"


def upgrade() -> None:
    """Apply."""
    create_clients()
    create_grants()
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("client_id", sa.String(length=64), nullable=True))
        sessions.add_column(sa.Column("grant_id", BIG_INT, nullable=True))
        sessions.create_foreign_key(op.f(GRANT_KEY), "oauth_grants", ["grant_id"], ["id"], ondelete="CASCADE")
    op.create_index(op.f("ix_sessions_grant_id"), "sessions", ["grant_id"], unique=False)
    create_codes()


def create_clients() -> None:
    """Create the tables of applications and of their origins."""
    op.create_table(
        "oauth_clients",
        sa.Column("id", BIG_INT, sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("redirect_uris", "grant_types", "scope")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("confidential", "first_party")),
        sa.Column("id_token_signed_response_alg", sa.String(length=16), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("former_secret_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("former_secret_until", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_clients")),
        sa.UniqueConstraint("client_id", name=op.f("uq_oauth_clients_client_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "oauth_origins",
        sa.Column("client_row_id", BIG_INT, nullable=False),
        sa.Column("origin", sa.String(length=300), nullable=False),
        reference("oauth_origins", "client_row_id", "oauth_clients"),
        sa.PrimaryKeyConstraint("client_row_id", "origin", name=op.f("pk_oauth_origins")),
    )
    op.create_index(op.f("ix_oauth_origins_origin"), "oauth_origins", ["origin"], unique=False)


def create_grants() -> None:
    """Create the table of what people have granted."""
    op.create_table(
        "oauth_grants",
        sa.Column("id", BIG_INT, sa.Identity(always=False), nullable=False),
        sa.Column("user_id", BIG_INT, nullable=False),
        sa.Column("client_row_id", BIG_INT, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        reference("oauth_grants", "user_id", "users"),
        reference("oauth_grants", "client_row_id", "oauth_clients"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_grants")),
        sa.UniqueConstraint("user_id", "client_row_id", name=op.f("uq_oauth_grants_user_id_client_row_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_oauth_grants_client_row_id"), "oauth_grants", ["client_row_id"], unique=False)


def create_codes() -> None:
    """Create the table of authorization codes."""
    op.create_table(
        "authorization_codes",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("grant_id", BIG_INT, nullable=False),
        sa.Column("approved_in", BIG_INT, nullable=True),
        sa.Column("used", sa.Boolean(), nullable=False),
        sa.Column("session_id", BIG_INT, nullable=True),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("challenge", sa.String(length=43), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        sa.Column("amr", sa.Text(), nullable=False),
        sa.Column("authenticated_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        reference("authorization_codes", "grant_id", "oauth_grants"),
        reference("authorization_codes", "approved_in", "sessions"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_authorization_codes")),
    )
    for column in ("grant_id", "approved_in", "expires_at"):
        op.create_index(op.f(f"ix_authorization_codes_{column}"), "authorization_codes", [column], unique=False)


def reference(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    """Return the reference to a row of another table, with which the row goes."""
    return sa.ForeignKeyConstraint(
        [column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"), ondelete="CASCADE"
    )


def downgrade() -> None:
    """Take back. Applications' sessions end, since the release before would take them for the person's own."""
    op.drop_table("authorization_codes")
    op.execute("DELETE FROM sessions WHERE client_id IS NOT NULL")
    op.drop_index(op.f("ix_sessions_grant_id"), table_name="sessions")
    with op.batch_alter_table("sessions") as sessions:
        sessions.drop_constraint(op.f(GRANT_KEY), type_="foreignkey")
        sessions.drop_column("grant_id")
        sessions.drop_column("client_id")
    op.drop_table("oauth_grants")
    op.drop_table("oauth_origins")
    op.drop_table("oauth_clients")
