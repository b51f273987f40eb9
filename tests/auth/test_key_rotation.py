"""Replacing SECRET_KEY: what the last key has signed stays good for a while, and the new key signs what is new."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace

from app.main import create_app
from app.settings import Settings
from tests.auth.oauth import Pair, new_user, refresh, refreshed, status_of
from tests.factories import PASSWORD, SECRET, connect_to, log_in
from tests.outbox import deliver, token_in

OLD = SECRET
NEW = SECRET[::-1]
THIRD = "tests-only-third-" + SECRET[11:]


@asynccontextmanager
async def started_again(
    settings: Settings, secret: str, previous: str = ""
) -> AsyncIterator[tuple[Litestar, AsyncClient]]:
    """Run the service after its operator has changed the keys."""
    app = create_app(replace(settings, secret_key=secret, secret_key_previous=previous))
    async with connect_to(app) as client:
        yield app, client


@pytest.fixture
async def pair(settings: Settings) -> Pair:
    """The tokens of a login from before the change."""
    async with started_again(settings, OLD) as (app, _):
        return await new_user(app)


def kid(token: str) -> str:
    """Return the id of the key that signed a token."""
    value: str = jwt.get_unverified_header(token)["kid"]
    return value


async def test_tokens_of_the_last_key_stay_good(settings: Settings, pair: Pair) -> None:
    """Nobody has to log in again, and their next tokens are signed by the new key."""
    async with started_again(settings, NEW, OLD) as (_, client):
        assert await status_of(client, pair) == 200
        following = await refreshed(client, pair)
        assert await status_of(client, following) == 200
        assert {kid(token) for token in tokens(pair)} != {kid(token) for token in tokens(following)}
        assert [len({kid(token) for token in tokens(one)}) for one in (pair, following)] == [1, 1]
    async with started_again(settings, NEW) as (_, client):
        assert await status_of(client, following) == 200
        assert await status_of(client, pair) == 401


async def test_instances_can_be_changed_one_after_the_other(settings: Settings) -> None:
    """All instances first learn the new key as the other one, so those that still sign with the old one take it."""
    async with started_again(settings, NEW, OLD) as (app, _):
        pair = await new_user(app)
    async with started_again(settings, OLD, NEW) as (_, client):
        assert await status_of(client, pair) == 200
        assert await status_of(client, await refreshed(client, pair)) == 200


async def test_reuse_is_seen_across_the_change(settings: Settings, pair: Pair) -> None:
    """A spent token of the last key ends the session that a token of the new key goes on with."""
    async with started_again(settings, NEW, OLD) as (_, client):
        second = await refreshed(client, pair)
        third = await refreshed(client, second)
        assert (await refresh(client, pair)).json()["error"] == "invalid_grant"
        assert await status_of(client, third) == 401


async def test_a_login_of_the_last_key_can_be_ended(settings: Settings, pair: Pair) -> None:
    async with started_again(settings, NEW, OLD) as (_, client):
        assert (await client.post("/revoke", data={"token": pair["access_token"]})).status_code == 200
        assert await status_of(client, pair) == 401


async def test_without_the_last_key_its_tokens_are_worth_nothing(settings: Settings, pair: Pair) -> None:
    """An operator whose key was stolen wants this; people log in again."""
    async with started_again(settings, NEW) as (_, client):
        assert await status_of(client, pair) == 401
        assert (await refresh(client, pair)).json()["error"] == "invalid_grant"
        assert (await log_in(client, "alice")).status_code == 200


async def test_the_key_before_the_last_is_refused(settings: Settings, pair: Pair) -> None:
    async with started_again(settings, THIRD, NEW) as (_, client):
        assert await status_of(client, pair) == 401


async def test_a_mailed_token_survives_the_change(settings: Settings) -> None:
    """The mail was on its way while the key changed."""
    async with started_again(settings, OLD) as (app, client):
        await new_user(app)
        await client.post("/password-reset", json={"email": "alice@example.org"})
        (mail,) = await deliver(app, settings)
    async with started_again(settings, NEW, OLD) as (_, client):
        body = {"token": token_in(mail), "new_password": "a new and better one"}
        assert (await client.post("/password-reset/confirm", json=body)).status_code == 204
        assert (await log_in(client, "alice", password=PASSWORD)).status_code == 401


async def test_the_last_key_signs_nothing_that_says_it_is_of_the_new_one(settings: Settings, pair: Pair) -> None:
    """The header says which key to check with, and no other is tried."""
    async with started_again(settings, NEW, OLD) as (_, client):
        header = (await refreshed(client, pair))["access_token"].split(".")[0]
        _, payload, signature = pair["access_token"].split(".")
        assert await status_of(client, {"access_token": f"{header}.{payload}.{signature}"}) == 401


async def test_another_algorithm_ends_all_tokens(settings: Settings, pair: Pair) -> None:
    """A token's algorithm is the service's, never its own choice."""
    longer = replace(settings, secret_key=OLD * 2, secret_key_previous="", algorithm="HS512")
    async with connect_to(create_app(longer)) as client:
        assert await status_of(client, pair) == 401
        fresh = (await log_in(client, "alice")).json()
        assert jwt.get_unverified_header(fresh["access_token"])["alg"] == "HS512"
        assert await status_of(client, fresh) == 200


def tokens(pair: Pair) -> tuple[str, str]:
    """Return both tokens of a pair."""
    return pair["access_token"], pair["refresh_token"]
