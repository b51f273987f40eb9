"""The limits on guessing passwords: how many guesses there are, and who they are counted for."""

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace

from app.main import create_app
from app.settings import Settings
from tests.auth.oauth import client_from, status_of
from tests.factories import add_user, connect_to, log_in, on_sqlite, register
from tests.problems import assert_problem

STRANGER = "198.51.100.66"
OWNER = "203.0.113.7"


async def guess(client: AsyncClient, name: str = "alice", times: int = 1) -> list[int]:
    """Log in with a wrong password so many times, and return the statuses."""
    return [(await log_in(client, name, password=f"wrong {number}")).status_code for number in range(times)]


def check_limited(answer: Response) -> None:
    """Check for a problem detail that bars logins for a quarter of an hour at most."""
    assert_problem(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 15 * 60


async def test_after_ten_wrong_guesses_a_right_one_is_refused_too(app: Litestar, client: AsyncClient) -> None:
    """If it were let in, the eleventh guess would tell the password."""
    await add_user(app, "alice")
    assert await guess(client, times=10) == [401] * 10
    check_limited(await log_in(client, "alice"))
    check_limited(await log_in(client, "alice", password="wrong"))


@pytest.mark.usefixtures("client")
async def test_a_strangers_guesses_do_not_lock_the_owner_out(app: Litestar) -> None:
    """Guesses are counted for the address that they come from, and the live session goes on."""
    await add_user(app, "alice")
    stranger, owner = client_from(app, STRANGER), client_from(app, OWNER)
    pair = (await log_in(owner, "alice")).json()
    assert await guess(stranger, times=11) == [401] * 10 + [429]
    assert (await log_in(owner, "alice")).status_code == 200
    assert await status_of(stranger, pair) == 200
    check_limited(await log_in(stranger, "alice"))


async def test_name_and_address_in_any_case_are_one_account(app: Litestar, client: AsyncClient) -> None:
    await add_user(app, "alice")
    names = ["alice", "ALICE", "alice@example.org", "Alice@Example.org"] * 3
    statuses = [(await guess(client, name))[0] for name in names]
    assert statuses == [401] * 10 + [429] * 2


async def test_a_name_that_nobody_has_is_counted_alike(app: Litestar, client: AsyncClient) -> None:
    """If it were not, the limit would tell which names there are."""
    assert await guess(client, "nobody", 11) == [401] * 10 + [429]
    assert await guess(client, "NOBODY") == [429]
    assert await guess(client, "somebody") == [401]
    await add_user(app, "bob", is_active=False)
    assert await guess(client, "bob", 11) == [401] * 10 + [429]


async def test_a_right_password_is_not_counted(app: Litestar, client: AsyncClient) -> None:
    """It doesn't forgive the wrong ones either."""
    await add_user(app, "alice")
    assert await guess(client, times=9) == [401] * 9
    assert {(await log_in(client, "alice")).status_code for _ in range(5)} == {200}
    assert await guess(client, times=2) == [401, 429]


@on_sqlite
@pytest.mark.usefixtures("client")
async def test_one_address_has_a_hundred_guesses_at_all_accounts(app: Litestar) -> None:
    """One password can't be tried at every account; one database is enough for 100 hashes."""
    await add_user(app, "alice")
    stranger = client_from(app, STRANGER)
    assert {(await guess(stranger, f"user{number}"))[0] for number in range(100)} == {401}
    check_limited(await log_in(stranger, "one-more"))
    check_limited(await log_in(stranger, "alice"))
    assert (await log_in(client_from(app, OWNER), "alice")).status_code == 200


async def test_registering_and_refreshing_are_not_limited(app: Litestar, client: AsyncClient) -> None:
    """Many people share one address, so nothing else is limited by default."""
    await add_user(app, "alice")
    token = (await log_in(client, "alice")).json()["refresh_token"]
    assert await guess(client, times=10) == [401] * 10
    for number in range(12):
        assert (await register(client, f"user{number}")).status_code == 201
        form = {"grant_type": "refresh_token", "refresh_token": token}
        answer = await client.post("/token", data=form)
        assert answer.status_code == 200
        token = answer.json()["refresh_token"]


@pytest.mark.usefixtures("client")
async def test_without_a_trusted_proxy_what_a_client_says_of_itself_counts_nothing(app: Litestar) -> None:
    """A header that anybody can write moves nobody to another address."""
    await add_user(app, "alice")
    statuses = [
        (await log_in(client_from(app, STRANGER, **forwarded(f"192.0.2.{number}")), "alice", password="x")).status_code
        for number in range(11)
    ]
    assert statuses == [401] * 10 + [429]


@pytest.mark.parametrize("header", ["{client}", "192.0.2.1, {client}", "10.9.9.9, {client}, 10.0.0.2"])
async def test_behind_a_trusted_proxy_the_real_client_is_counted(settings: Settings, header: str) -> None:
    """A client can't change this by what it writes in front of what the proxies add."""
    app = create_app(replace(settings, trusted_proxies=("10.0.0.0/24",)))

    def behind(address: str) -> AsyncClient:
        return client_from(app, "10.0.0.1", **forwarded(header.format(client=address)))

    async with connect_to(app):
        await add_user(app, "alice")
        assert await guess(behind(STRANGER), times=11) == [401] * 10 + [429]
        assert (await log_in(behind(OWNER), "alice")).status_code == 200
        outside = client_from(app, STRANGER, **forwarded(OWNER))
        check_limited(await log_in(outside, "alice"))


async def test_all_addresses_of_one_household_are_one_client(app: Litestar, client: AsyncClient) -> None:
    """The household has a /64 network, and could otherwise guess from 2^64 addresses."""
    await add_user(app, "alice")
    for number in range(10):
        assert await guess(client_from(app, f"2001:db8:1:2::{number + 1}")) == [401]
    assert await guess(client_from(app, "2001:db8:1:2:ffff::1")) == [429]
    assert (await log_in(client_from(app, "2001:db8:1:3::1"), "alice")).status_code == 200
    assert (await log_in(client, "alice")).status_code == 200


def forwarded(addresses: str) -> dict[str, str]:
    """Return the headers by which proxies name a client."""
    return {"X-Forwarded-For": addresses}
