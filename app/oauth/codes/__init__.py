"""Authorization codes, for which applications get tokens (RFC 6749, section 4.1; RFC 7636)."""
