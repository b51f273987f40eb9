"""The story of a user, from the registration to the reading of an item."""

from httpx import AsyncClient
from litestar import Litestar

from app.main import create_app
from app.settings import Settings
from tests.factories import SECRET, client_of, connect_to, create_item, log_in, register


async def test_from_registration_to_reading_an_item(app: Litestar, client: AsyncClient) -> None:
    """A user registers, logs in, creates two items, lists them and reads one; a stranger sees nothing of it."""
    registered = await register(client, "alice")
    assert registered.status_code == 201
    token = (await log_in(client, "alice@example.org")).json()["access_token"]
    alice = client_of(app, Authorization=f"Bearer {token}")
    assert (await alice.get("/users/me")).json() == registered.json()
    first = (await create_item(alice, "Umbrella", "Black")).json()
    second = (await create_item(alice, "Hat")).json()
    assert first["owner_id"] == second["owner_id"] == registered.json()["id"]
    assert (await alice.get("/items/")).json() == [second, first]
    assert (await alice.get(f"/items/{first['id']}")).json() == first
    await register(client, "bob")
    token = (await log_in(client, "bob")).json()["access_token"]
    bob = client_of(app, Authorization=f"Bearer {token}")
    assert (await bob.get("/items/")).json() == []
    assert (await bob.get(f"/items/{first['id']}")).status_code == 403


async def test_two_applications_in_one_process_are_independent(sqlite_url: str) -> None:
    """Each has its own engine, keys and settings; stopping one leaves the other running."""
    one = create_app(Settings(secret_key=SECRET, database_url=sqlite_url, jobs_in_process=False))
    two = create_app(
        Settings(
            secret_key=SECRET[::-1],
            database_url=sqlite_url,
            jobs_in_process=False,
            registration="closed",
            public_url="https://two.example.org",
        )
    )
    async with connect_to(one) as first:
        async with connect_to(two) as second:
            assert (await register(first, "alice")).status_code == 201
            assert (await register(second, "bob")).status_code == 403
            token = (await log_in(first, "alice")).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            assert (await first.get("/users/me", headers=headers)).status_code == 200
            assert (await second.get("/users/me", headers=headers)).status_code == 401
        assert (await first.get("/users/me", headers=headers)).status_code == 200
