"""Passwords, tokens, signing keys, encryption, limits and security events; nothing here knows a route."""
