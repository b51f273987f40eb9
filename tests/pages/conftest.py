"""The fixtures of the tests of pages."""

import pytest
from httpx import AsyncClient
from litestar import Litestar

from tests.browsers import page, service, service_folder  # noqa: F401 - pytest finds the fixtures here
from tests.factories import PASSWORD, add_user
from tests.pages.person import Person


@pytest.fixture
def person(app: Litestar, client: AsyncClient) -> Person:  # noqa: ARG001 - the application runs while it is there
    """A person whom nobody knows."""
    return Person(app)


@pytest.fixture
async def member(app: Litestar, person: Person) -> Person:
    """A person who is signed in as alice."""
    await add_user(app, "alice")
    await person.sign_in("alice", PASSWORD)
    return person
