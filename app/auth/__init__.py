"""Credentials and sessions: logging in, tokens and the guard on the routes."""
