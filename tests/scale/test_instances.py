"""Two instances of the service: each knows at once what the other has done."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from httpx import AsyncClient, Response

from tests import servers
from tests.conftest import SERVER
from tests.factories import SECRET, log_in, register
from tests.programs import free_port, service
from tests.scale.users import new_user

LONGEST_SECONDS = 30
on_empty_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)


@pytest.fixture(scope="module")
def ports(migrated_postgresql_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Two instances on one database, which count in one Redis."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        servers.redis() as redis,
        servers.instances(2, folder, DATABASE_URL=migrated_postgresql_database, RATE_LIMIT_STORAGE=redis) as ports,
    ):
        yield ports


@pytest.fixture
async def one(ports: list[int], postgresql_url: str) -> AsyncIterator[AsyncClient]:  # noqa: ARG001 - it empties the database
    """A client of the first instance."""
    async with AsyncClient(base_url=f"http://127.0.0.1:{ports[0]}") as client:
        yield client


@pytest.fixture
async def other(ports: list[int], one: AsyncClient) -> AsyncIterator[AsyncClient]:  # noqa: ARG001 - which comes first
    """A client of the second instance."""
    async with AsyncClient(base_url=f"http://127.0.0.1:{ports[1]}") as client:
        yield client


async def refresh(client: AsyncClient, token: str) -> Response:
    """Refresh a session; return the answer."""
    return await client.post("/token", data={"grant_type": "refresh_token", "refresh_token": token})


def bearer(tokens: Response) -> dict[str, str]:
    """Return the Authorization header for the tokens in an answer."""
    return {"Authorization": f"Bearer {tokens.json()['access_token']}"}


async def test_a_user_who_registers_with_one_signs_in_with_the_other(one: AsyncClient, other: AsyncClient) -> None:
    """Each instance accepts the other's tokens."""
    assert (await register(one, "anna")).status_code == 201
    assert (await register(other, "ANNA")).status_code == 400
    tokens = await log_in(other, "anna")
    assert (await one.get("/users/me", headers=bearer(tokens))).json()["username"] == "anna"


async def test_refresh_tokens_rotate_across_both(one: AsyncClient, other: AsyncClient) -> None:
    """A token that was spent with one instance ends its session when the other gets it."""
    await register(one, "berta")
    first = await log_in(one, "berta")
    second = await refresh(other, first.json()["refresh_token"])
    third = await refresh(one, second.json()["refresh_token"])
    assert (await other.get("/users/me", headers=bearer(third))).status_code == 200
    assert (await refresh(other, first.json()["refresh_token"])).json()["error"] == "invalid_grant"
    for client in (one, other):
        assert (await client.get("/users/me", headers=bearer(third))).status_code == 401
        assert (await refresh(client, third.json()["refresh_token"])).status_code == 400


async def test_a_token_that_one_revokes_the_other_refuses_at_once(one: AsyncClient, other: AsyncClient) -> None:
    await register(one, "clara")
    tokens = await log_in(one, "clara")
    for client in (one, other):
        assert (await client.get("/users/me", headers=bearer(tokens))).status_code == 200
    assert (await one.post("/revoke", data={"token": tokens.json()["access_token"]})).status_code == 200
    assert (await other.get("/users/me", headers=bearer(tokens))).status_code == 401


async def test_a_request_that_is_sent_again_is_known_to_the_other(one: AsyncClient, other: AsyncClient) -> None:
    """It creates one row, even when both get it at the same time."""
    await register(one, "dora")
    headers = bearer(await log_in(one, "dora"))

    async def create(client: AsyncClient, key: str) -> Response:
        return await client.post("/items/", json={"title": key}, headers=headers | {"Idempotency-Key": key})

    first, again = await create(one, "umbrella"), await create(other, "umbrella")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    for number in range(10):
        answers = await asyncio.gather(create(one, str(number)), create(other, str(number)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert 201 in {answer.status_code for answer in answers}
    assert len((await other.get("/items/", headers=headers)).json()) == 11


async def test_wrong_passwords_are_counted_together(one: AsyncClient, other: AsyncClient) -> None:
    await register(one, "emma")
    for number in range(10):
        client = (one, other)[number % 2]
        assert (await log_in(client, "emma", password="wrong")).status_code == 401
    for client in (one, other):
        assert (await log_in(client, "emma")).status_code == 429


@on_empty_postgresql
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "PgBouncer"])
def test_of_many_that_start_at_once_one_migrates(
    empty_database_url: str, server_url: str, tmp_path: Path, *, pooled: bool
) -> None:
    """The others wait for it, and all of them serve."""
    name = empty_database_url.rpartition("/")[2].partition("?")[0]

    def start(number: int, url: str) -> int:
        folder, port = tmp_path / str(number), free_port()
        folder.mkdir()
        pooler = str(pooled).lower()
        with service(folder, port, SECRET_KEY=SECRET, DATABASE_URL=url, DATABASE_POOLER=pooler):
            return new_user(f"http://127.0.0.1:{port}", number).status_code

    with servers.pgbouncer(server_url) as pooler_url, ThreadPoolExecutor() as pool:
        url = pooler_url.rpartition("/")[0] + f"/{name}" if pooled else empty_database_url
        assert list(pool.map(start, range(3), [url] * 3)) == [201] * 3


@pytest.fixture
def server_url() -> str:
    """The tests' PostgreSQL itself, without a pooler."""
    return os.environ[SERVER]


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, free_tcp_port: int) -> None:
    """The other worker serves meanwhile, and the program that started both runs on."""
    with service(tmp_path, free_tcp_port, WORKERS="2") as process:
        before = workers(process.pid)
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + LONGEST_SECONDS
        while len(now := workers(process.pid)) < len(before) or set(now) == set(before):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert process.poll() is None
        for _ in range(20):
            with suppress(httpx.TransportError):  # of the one that is still starting
                assert httpx.get(f"http://127.0.0.1:{free_tcp_port}/health/live").status_code == 200


def workers(pid: int) -> list[int]:
    """Return the worker processes of a program."""
    return [child.pid for child in psutil.Process(pid).children() if child.is_running()]
