"""Devices without a keyboard or a browser, which are let in from elsewhere (RFC 8628)."""
