"""Passwords, tokens and limits; nothing here knows a route or a table."""
