"""Users of a program, without an event loop."""

import httpx

from tests.factories import PASSWORD


def new_user(url: str, number: int) -> httpx.Response:
    """Register a user with a number of their own; return the answer."""
    body = {"username": f"user{number}", "email": f"user{number}@example.org", "password": PASSWORD}
    return httpx.post(f"{url}/users/", json=body)
