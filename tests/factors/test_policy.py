"""The policy that asks for a second factor, and the operator's way back."""

import pytest
from click.testing import CliRunner
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select

from app.auth.models import LoginSession
from app.factors.feature import create_factor_reset, feature
from app.factors.models import RecoveryCode, Totp
from app.http.feature import Parts
from app.main import create_app
from app.settings import Settings
from tests.auth.oauth import bearer, fetch
from tests.factories import People, add_user, client_of, connect_to, log_in, on_sqlite, parts_of
from tests.factors.totp import code_of, enrol, log_in_with
from tests.outbox import deliver
from tests.problems import assert_problem

NEEDED = "A second factor is needed"
OPEN = [
    ("GET", "/users/me", 200),
    ("PATCH", "/users/me", 200),
    ("GET", "/users/me/sessions", 200),
    ("DELETE", "/users/me/sessions", 204),
    ("GET", "/users/me/factors", 200),
    ("POST", "/users/me/totp", 201),
]
CLOSED = [("GET", "/items"), ("POST", "/items"), ("DELETE", "/users/me"), ("PUT", "/users/me/password")]


async def test_superusers_need_a_factor_for_their_rights_alone(settings: Settings) -> None:
    """Enrolling raises the session; what it may do by itself it may do before, and removing lowers it again."""
    app = create_app(replace(settings, second_factor="superusers"))
    async with connect_to(app) as client:
        people = People(app, client)
        root, alice = await people.sign_in("root", is_superuser=True), await people.sign_in("alice")
        own_id = (await root.get("/users/me")).json()["id"]
        for path in ("/users", f"/users/{own_id + 1}"):
            assert_problem(await root.get(path), 403, NEEDED)
        assert_problem(await alice.get("/users"), 403, "Only superusers may do this")
        assert (await root.get(f"/users/{own_id}")).status_code == 200
        assert (await root.get("/items")).status_code == (await alice.get("/items")).status_code == 200
        secret, _ = await enrol(app, root)
        assert (await root.get("/users")).status_code == 200
        other = client_of(app, **bearer((await log_in_with(client, code_of(secret), "root")).json()))
        assert (await other.get("/users")).status_code == 200
        assert (await other.delete("/users/me/totp")).status_code == 204
        for session in (root, other):
            assert_problem(await session.get("/users"), 403, NEEDED)


async def test_all_means_nearly_everything(settings: Settings) -> None:
    """Without a factor one can see to oneself, and enrol; nobody is locked out of signing out."""
    app = create_app(replace(settings, second_factor="all"))
    async with connect_to(app) as client:
        alice = await People(app, client).sign_in("alice")
        for method, path in CLOSED:
            body = {"title": "Umbrella"} if method == "POST" else None
            assert_problem(await alice.request(method, path, json=body), 403, NEEDED)
        for method, path, status in OPEN:
            body = {} if method == "PATCH" else None
            assert (await alice.request(method, path, json=body)).status_code == status, path
        await enrol(app, alice)
        assert (await alice.get("/items")).status_code == 200
        pair = (await log_in(client, "alice")).json()
        assert pair["error"] == "mfa_required"
        assert (await client.post("/revoke", data={"token": "unknown"})).status_code == 200


@on_sqlite
@pytest.mark.parametrize("policy", ["none", "superusers", "all"])
def test_only_a_policy_costs_a_check(settings: Settings, policy: str) -> None:
    brought = feature(Parts(replace(settings, second_factor=policy)))
    assert len(brought.checks) == (policy != "none")


async def test_an_operators_reset_removes_all_of_it_and_is_mailed(
    app: Litestar, client: AsyncClient, alice: AsyncClient, parts: Parts, settings: Settings
) -> None:
    await enrol(app, alice)
    await deliver(app, settings)
    await add_user(app, "bob")
    assert await create_factor_reset(parts).remove_all("nobody") is None
    assert await create_factor_reset(parts).remove_all("Alice") == 1
    assert (await alice.get("/users/me")).status_code == 401
    for column in (Totp.user_id, RecoveryCode.user_id, LoginSession.id):
        assert await fetch(app, select(column)) == []
    assert (await log_in(client, "alice")).status_code == 200
    (mail,) = await deliver(app, settings)
    assert (mail["To"], mail["Subject"]) == ("alice@example.org", "Your second factors were removed")
    assert max(map(len, mail.get_content().splitlines())) <= 100


def test_the_command_says_whom_it_reset_and_that_there_is_nobody(app: Litestar, settings: Settings) -> None:
    assert parts_of(app).settings == settings
    (command,) = feature(Parts(settings)).commands
    answer = CliRunner().invoke(command, ["nobody"])
    assert (answer.exit_code, answer.output) == (1, "There is no account with the name nobody\n")
    assert CliRunner().invoke(command, []).exit_code == 2
