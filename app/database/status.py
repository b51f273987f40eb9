"""Questions about a database as a whole."""

from sqlalchemy import Integer, String, literal_column, select, table

from app.database.sessions import Database

# Answered by a database that is there and was migrated.
REVISION = select(literal_column("version_num", String())).select_from(table("alembic_version"))
# What the server has for those who aren't its superusers.
CONNECTION_LIMIT = select(
    literal_column("current_setting('max_connections')::int", Integer())
    - literal_column("current_setting('superuser_reserved_connections')::int", Integer())
    - literal_column("coalesce(current_setting('reserved_connections', true)::int, 0)", Integer())
)


async def revision(database: Database) -> str | None:
    """Return which migration a database is at; None when there was none. Raise DBAPIError and OSError."""
    rows = await database.fetch(REVISION, {})
    return rows[0][0] if rows else None


async def connection_limit(database: Database) -> int:
    """Return how many connections PostgreSQL takes."""
    rows = await database.fetch(CONNECTION_LIMIT, {})
    return rows[0][0]
