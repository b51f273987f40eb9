"""The rule for new passwords in production, on every way in."""

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace

from app.settings import Settings
from tests.factories import PASSWORD, add_user, log_in, passwords, register
from tests.outbox import deliver, token_in
from tests.problems import assert_problem, pointers

GOOD = "violet-umbrella-under-7-moons"
REFUSED = ["short", "elevenchars", "password1234", "qwertyuiop12", "aaaaaaaaaaaaa", "my-name-is-Margarete", "x" * 257]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of a public service."""
    return replace(settings, environment="production")


async def test_registration_refuses_a_weak_password(client: AsyncClient) -> None:
    """The refusal names the field."""
    for password in REFUSED:
        assert pointers(await register(client, "margarete", password=password)) == ["/password"], password
    assert (await register(client, "margarete", password=GOOD)).status_code == 201


async def test_a_change_refuses_a_weak_password(app: Litestar, client: AsyncClient) -> None:
    """The old password stays."""
    await add_user(app, "margarete")
    token = (await log_in(client, "margarete")).json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"

    async def change(password: str) -> Response:
        return await client.put("/users/me/password", json={"current_password": PASSWORD, "new_password": password})

    for password in REFUSED:
        assert pointers(await change(password)) == ["/new_password"], password
    assert (await log_in(client, "margarete")).status_code == 200
    assert (await change(GOOD)).status_code == 204


async def test_a_reset_refuses_a_weak_password(app: Litestar, client: AsyncClient, settings: Settings) -> None:
    """The token stays good."""
    await add_user(app, "margarete")
    await client.post("/password-reset", json={"email": "margarete@example.org"})
    (mail,) = await deliver(app, settings)

    async def reset(password: str) -> Response:
        body = {"token": token_in(mail), "new_password": password}
        return await client.post("/password-reset/confirm", json=body)

    for password in REFUSED:
        assert pointers(await reset(password)) == ["/new_password"], password
    assert (await reset(GOOD)).status_code == 204


async def test_a_password_from_before_the_rule_still_logs_in(app: Litestar, client: AsyncClient) -> None:
    """The rule is for new passwords, so it locks nobody out."""
    await add_user(app, "margarete", hashed_password=passwords().hasher.hash("short"))
    assert (await log_in(client, "margarete", password="short")).status_code == 200


async def test_a_refusal_does_not_repeat_the_password(client: AsyncClient) -> None:
    """Answers are kept in more places than one would like."""
    answer = await register(client, "margarete", password="my-name-is-Margarete")
    assert_problem(answer, 422)
    assert "my-name-is" not in answer.text
