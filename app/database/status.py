"""Statements about a database as a whole: its version, its migration, and its limit of connections."""

from sqlalchemy import Boolean, Integer, String, literal_column, select, table

from app.database.sessions import Database

# It fails on a database that was never migrated.
REVISION = select(literal_column("version_num", String())).select_from(table("alembic_version"))
# The connections that PostgreSQL leaves to users who aren't its superusers.
CONNECTION_LIMIT = select(
    literal_column("current_setting('max_connections')::int", Integer())
    - literal_column("current_setting('superuser_reserved_connections')::int", Integer())
    - literal_column("coalesce(current_setting('reserved_connections', true)::int, 0)", Integer())
)
VERSIONS = {
    "postgresql": select(literal_column("'PostgreSQL ' || current_setting('server_version')", String())),
    "sqlite": select(literal_column("'SQLite ' || sqlite_version()", String())),
}
IS_STANDBY = select(literal_column("pg_is_in_recovery()", Boolean()))


async def server_version(database: Database) -> str:
    """Return the kind and the version of a database. Raise DBAPIError and OSError."""
    rows = await database.fetch(VERSIONS[database.engine.dialect.name], {})
    return rows[0][0]


async def is_standby(database: Database) -> bool:
    """Return whether a PostgreSQL server replays what a primary writes. Raise DBAPIError and OSError."""
    rows = await database.fetch(IS_STANDBY, {})
    return rows[0][0]


async def revision(database: Database) -> str | None:
    """Return the revision of a database's last migration, None when all were undone. Raise DBAPIError and OSError."""
    rows = await database.fetch(REVISION, {})
    return rows[0][0] if rows else None


async def connection_limit(database: Database) -> int:
    """Return the most connections that PostgreSQL accepts from the service."""
    rows = await database.fetch(CONNECTION_LIMIT, {})
    return rows[0][0]
