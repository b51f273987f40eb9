"""The database: engines, sessions, and what every table and repository is built on."""
