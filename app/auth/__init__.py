"""Authentication: logins, tokens, sessions, passwords, and the guard on the routes."""
