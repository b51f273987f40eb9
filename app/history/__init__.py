"""History: the security events, kept as rows, for the people whom they are about and for superusers."""
