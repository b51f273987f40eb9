"""Accounts: registration, profiles, superusers' rights, and the verification of e-mail addresses."""
