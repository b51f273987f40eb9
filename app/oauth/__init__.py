"""OAuth 2.1 and OpenID Connect: other people's applications sign people in, and act for them."""
