"""The database: engines, sessions, and the base classes of tables and repositories."""
