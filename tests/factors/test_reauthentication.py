"""Proofs within a session: who proves again who they are may do what needs a fresh sign-in."""

import asyncio
from collections.abc import Mapping

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import update

from app.auth.models import LoginSession
from tests.auth.oauth import execute
from tests.auth.test_fresh_sign_in import age
from tests.factories import PASSWORD, People, log_in, on_sqlite
from tests.factors.authenticator import Authenticator, request_options
from tests.factors.test_totp import amr_of
from tests.factors.totp import code_of, enrol, log_in_with, wrong_code_of
from tests.problems import assert_oauth_error, assert_problem

WRONG = "The proof is wrong"


async def prove(client: AsyncClient, **proof: object) -> Response:
    """Prove who the user of a client is, and return the answer."""
    return await client.post("/users/me/reauthentication", json=proof)


async def is_fresh(client: AsyncClient) -> bool:
    """Return whether a client's session may do what needs a fresh sign-in."""
    return (await client.post("/users/me/totp")).status_code != 401


async def test_without_a_factor_the_password_is_a_proof(app: Litestar, alice: AsyncClient, people: People) -> None:
    """It makes this session fresh and no other, and raises no level."""
    other = await people.sign_in_again((await alice.get("/users/me")).json()["id"])
    await age(app, 11)
    assert_problem(await prove(alice, password="wrong"), 403, WRONG)
    assert not await is_fresh(alice)
    assert (await prove(alice, password=PASSWORD, otp="123456")).status_code == 204
    assert await is_fresh(alice)
    assert not await is_fresh(other)
    assert await amr_of(alice) == ["pwd"]


async def test_with_an_app_the_password_needs_a_code(app: Litestar, alice: AsyncClient) -> None:
    """A code works once, here too, and the session gets the level of both factors."""
    secret, codes = await enrol(app, alice)
    await age(app, 11)
    await execute(app, update(LoginSession).values(amr="pwd"))
    assert_oauth_error(await prove(alice, password=PASSWORD), 403, "mfa_required")
    assert_problem(await prove(alice, password=PASSWORD, otp=wrong_code_of(secret)), 403, WRONG)
    assert_problem(await prove(alice, password="wrong", otp=codes[0]), 403, WRONG)
    assert not await is_fresh(alice)
    answers = await asyncio.gather(*(prove(alice, password=PASSWORD, otp=codes[0]) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 403, 403, 403]
    assert await is_fresh(alice)
    assert await amr_of(alice) == ["pwd", "otp", "mfa"]
    assert_problem(await prove(alice, password=PASSWORD, otp=codes[0]), 403, WRONG)
    assert (await prove(alice, password=PASSWORD, otp=code_of(secret))).status_code == 204


async def test_a_passkey_is_a_proof_once_and_in_the_session_that_asked(
    app: Litestar, client: AsyncClient, alice: AsyncClient, people: People
) -> None:
    device = Authenticator()
    other = await people.sign_in_again((await alice.get("/users/me")).json()["id"])
    await device.add_to(alice)
    await age(app, 11)
    assert_oauth_error(await prove(other, password=PASSWORD), 403, "mfa_required")
    elsewhere, public = device.get(await request_options(alice)), device.get(await request_options(client))
    for credential in (elsewhere, public):
        assert_problem(await prove(other, credential=credential), 403, WRONG)
    credential = device.get(await request_options(other))
    answers = await asyncio.gather(*(prove(other, credential=credential) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [204, 403]
    assert await is_fresh(other)
    assert not await is_fresh(alice)
    assert await amr_of(other) == ["pop", "user", "mfa"]


async def test_anothers_passkey_proves_nothing(alice: AsyncClient, people: People) -> None:
    device, bob = Authenticator(), await people.sign_in("bob")
    await device.add_to(alice)
    assert_problem(await prove(bob, credential=device.get(await request_options(bob))), 403, WRONG)


@on_sqlite
async def test_wrong_proofs_are_limited_as_logins_are(app: Litestar, client: AsyncClient, alice: AsyncClient) -> None:
    secret, _ = await enrol(app, alice)
    for _ in range(10):
        assert_problem(await prove(alice, password=PASSWORD, otp=wrong_code_of(secret)), 403, WRONG)
    assert_problem(await prove(alice, password=PASSWORD, otp=code_of(secret)), 429)
    assert (await log_in_with(client, code_of(secret))).status_code == 429
    for _ in range(10):
        assert_problem(await prove(alice, password="wrong"), 403, WRONG)
    assert_problem(await prove(alice, password="wrong"), 429)
    assert (await log_in(client, "alice", password="wrong")).status_code == 429


@on_sqlite
@pytest.mark.parametrize("proof", [{}, {"otp": "123456"}, {"password": 1}, {"credential": {}}, {"unknown": 1}])
async def test_what_is_no_proof_is_422(alice: AsyncClient, proof: Mapping[str, object]) -> None:
    assert_problem(await prove(alice, **proof), 422)
