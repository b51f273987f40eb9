"""Two instances on one database: what an application begins at one, it goes on with at the other."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import update

from app.database.models import now
from app.oauth.clients import Registered
from app.oauth.models import DeviceCode
from app.security.signing.keys import RELOAD_SECONDS
from app.settings import Settings
from tests.auth.oauth import Pair, bearer, execute, open_session, refresh
from tests.auth.signing import kid, stored, wait
from tests.conftest import application as shared
from tests.factories import PASSWORD, add_user, client_of, connect_to, parts_of
from tests.oauth.browsers import allow, answer_of, authorize, code_by_browser
from tests.oauth.flow import DEVICE, add_client, credentials, exchange, id_claims
from tests.oauth.test_account_pages import send
from tests.oauth.test_device import ask, begin
from tests.pages.person import Person

ES256 = {"id_token_signed_response_alg": "ES256"}


class Instances(Struct):
    """Two instances, each with a client; alice's browser is signed in, and its cookie is good at both."""

    app: Litestar
    client: AsyncClient
    browser: AsyncClient
    other_app: Litestar
    other_client: AsyncClient
    other_browser: AsyncClient


@pytest.fixture
async def two(app: Litestar, settings: Settings) -> AsyncIterator[Instances]:
    """Two instances, as behind a load balancer that sends each request to either."""
    other_app = shared(replace(settings, keep_alive_seconds=settings.keep_alive_seconds + 1))
    async with connect_to(app) as client, connect_to(other_app) as other_client:
        await add_user(app, "alice", is_superuser=True)
        person, other = Person(app), Person(other_app)
        await person.sign_in("alice", PASSWORD)
        other.client.cookies.update(person.client.cookies)
        yield Instances(app, client, person.client, other_app, other_client, other.client)


async def items_status(client: AsyncClient, tokens: Pair) -> int:
    """Return the status of a call of the API with the tokens."""
    return (await client.get("/items/", headers=bearer(tokens))).status_code


async def test_each_step_of_the_code_flow_is_at_another_instance(two: Instances) -> None:
    """A second use at either ends what the first one got."""
    application = await add_client(two.app)
    page = await authorize(two.browser, application)
    code = answer_of(await allow(two.other_browser, page))["code"]
    tokens = (await exchange(two.client, application, code)).json()
    assert (await id_claims(two.other_client, application, tokens))["sub"] == "1"
    renewed = (await refresh(two.other_client, tokens, **credentials(application))).json()
    for client in (two.client, two.other_client):
        assert await items_status(client, renewed) == 200
    assert (await exchange(two.other_client, application, code)).json()["error"] == "invalid_grant"
    for client in (two.client, two.other_client):
        assert await items_status(client, renewed) == 401


async def test_keys_that_both_need_first_at_once_are_one_set(two: Instances) -> None:
    """An ID token of either is verified by the keys that the other publishes."""
    application = await add_client(two.app, **ES256)
    codes = [await code_by_browser(two.browser, application) for _ in range(2)]
    clients = [two.client, two.other_client]
    pairs = zip(clients, codes, strict=True)
    answers = await asyncio.gather(*(exchange(client, application, code) for client, code in pairs))
    for client, answer in zip(reversed(clients), answers, strict=True):
        assert (await id_claims(client, application, answer.json()))["sub"] == "1"
    assert len(await stored(two.app)) == 1


async def test_an_instance_that_has_not_read_a_rotation_yet_signs_and_publishes_what_is_good(two: Instances) -> None:
    """It reads the keys within a minute, and the new key signs twelve minutes after it was made."""
    application = await add_client(two.app, **ES256)

    async def tokens_of(client: AsyncClient) -> Pair:
        code = await code_by_browser(two.browser, application)
        tokens: Pair = (await exchange(client, application, code)).json()
        return tokens

    first = await tokens_of(two.other_client)
    await parts_of(two.app).signing_keys.rotate()
    parts_of(two.other_app).signing_keys.loaded_at -= RELOAD_SECONDS
    published = (await two.other_client.get("/.well-known/jwks.json")).json()["keys"]
    assert set(await stored(two.app)) <= {key["kid"] for key in published}
    await wait(two.app)
    by_new, by_old = await tokens_of(two.client), await tokens_of(two.other_client)
    assert kid(by_new["id_token"]) != kid(by_old["id_token"]) == kid(first["id_token"])
    for client in (two.client, two.other_client):
        for tokens in (first, by_new, by_old):
            assert await id_claims(client, application, tokens)
            assert await items_status(client, tokens) == 200


async def test_a_device_asks_at_one_instance_and_is_let_in_at_the_other(two: Instances) -> None:
    """However many ask at once, at whichever: one gets the tokens."""
    application = await add_client(two.app, **DEVICE)
    codes = await begin(two.client, application)
    assert (await ask(two.other_client, application, codes)).json()["error"] == "slow_down"
    way = "/account/device"
    question = await send(two.other_browser, way, await two.browser.get(way), code=codes["user_code"])
    assert "Umbrella Counter" in question.text
    assert (await send(two.browser, way, question, decision="allow")).status_code == 303
    await execute(two.app, update(DeviceCode).values(asked_at=now() - timedelta(minutes=1)))
    clients = [two.client, two.other_client] * 2
    answers = await asyncio.gather(*(ask(client, application, codes) for client in clients))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    tokens = next(answer.json() for answer in answers if answer.is_success)
    assert await items_status(two.other_client, tokens) == 200


async def test_an_application_that_one_instance_removes_is_refused_by_the_other(two: Instances) -> None:
    """So is its secret, once it has another and a day is over; and a new secret is good at once."""
    application = await add_client(two.app)
    root = client_of(two.app, **bearer(await open_session(two.app, 1)))
    tokens = (await exchange(two.other_client, application, await code_by_browser(two.browser, application))).json()
    path = f"/clients/{application.client.id}"
    renewed = Registered(application.client, (await root.post(f"{path}/secret")).json()["client_secret"])
    other_code = await code_by_browser(two.other_browser, application)
    assert (await exchange(two.other_client, renewed, other_code)).status_code == 200
    code = await code_by_browser(two.browser, application)
    assert (await root.delete(path)).status_code == 204
    assert (await exchange(two.other_client, renewed, code)).json()["error"] == "invalid_client"
    assert (await refresh(two.other_client, tokens, **credentials(renewed))).json()["error"] == "invalid_client"
    assert await items_status(two.other_client, tokens) == 401
    assert (await authorize(two.other_browser, application)).status_code == 400
