"""API tokens: what scripts sign in with, each within scopes of its own."""
