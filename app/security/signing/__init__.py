"""Signing keys: asymmetric keys in the database, whose public parts are published (RFC 7517)."""
