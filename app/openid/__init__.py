"""OpenID Connect: who somebody is, for applications that they have signed in to."""
