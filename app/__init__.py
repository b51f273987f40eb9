"""Accounts, OAuth2 logins and owned resources behind a REST API."""

__version__ = "1.0.0"
