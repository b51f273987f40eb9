"""The policy that asks for a second factor, and the operator's way back."""

import pytest
from click.testing import CliRunner
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update

from app.auth.models import LoginSession
from app.factors.feature import create_factor_reset, feature
from app.factors.models import RecoveryCode, Totp
from app.http.feature import Parts
from app.main import create_app
from app.settings import Settings
from tests.api_tokens.tokens import add_token
from tests.auth.oauth import bearer, execute, fetch, open_session
from tests.factories import PASSWORD, People, add_user, client_of, connect_to, log_in, on_sqlite, parts_of
from tests.factors.authenticator import Authenticator
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


async def test_an_api_token_has_the_level_of_its_owner(settings: Settings) -> None:
    """It proves nothing by itself: what counts is whether the account has a factor of any kind."""
    app = create_app(replace(settings, second_factor="all"))
    async with connect_to(app) as client:
        alice, bob = [await add_user(app, name) for name in ("alice", "bob")]
        for user, add in ((alice, enrol), (bob, add_a_passkey)):
            token = client_of(app, Authorization=f"Bearer {await add_token(app, user.id, 'items:read')}")
            assert_problem(await token.get("/items"), 403, NEEDED)
            await add(app, client_of(app, **bearer(await open_session(app, user.id))))
            assert (await token.get("/items")).status_code == 200
        assert (await client.get("/items")).status_code == 401


async def add_a_passkey(_app: Litestar, client: AsyncClient) -> None:
    """Add a passkey to the account of a client."""
    assert (await Authenticator().add_to(client)).status_code == 201


async def test_a_secret_that_waits_is_worth_nothing_once_there_is_a_passkey(settings: Settings) -> None:
    """Else whoever knew the password before the owner added it could confirm an app of their own."""
    app = create_app(replace(settings, second_factor="all"))
    async with connect_to(app) as client:
        user = await add_user(app, "alice")
        stranger, owner = [client_of(app, **bearer(await open_session(app, user.id))) for _ in range(2)]
        secret = (await stranger.post("/users/me/totp")).json()["secret"]
        await add_a_passkey(app, owner)
        assert_problem(await stranger.post("/users/me/totp/confirm", json={"code": code_of(secret)}), 403, NEEDED)
        assert (await owner.post("/users/me/totp/confirm", json={"code": code_of(secret)})).status_code == 200
        assert (await client.get("/items")).status_code == 401


@pytest.mark.parametrize(("policy", "is_superuser"), [("none", True), ("superusers", False), ("superusers", True)])
async def test_below_two_factors_a_policy_lets_nobody_change_them(
    settings: Settings, policy: str, *, is_superuser: bool
) -> None:
    """Whoever knows the password alone of an account that needs a factor could add one of their own else."""
    app = create_app(replace(settings, second_factor=policy))
    applies = policy == "superusers" and is_superuser
    async with connect_to(app) as client:
        root = await People(app, client).sign_in("root", is_superuser=is_superuser)
        secret, _ = await enrol(app, root)
        added = (await Authenticator().add_to(root)).json()
        await execute(app, update(LoginSession).values(amr="pwd"))
        changes = [
            ("POST", "/users/me/passkeys/options", 200),
            ("POST", "/users/me/recovery-codes", 200),
            ("DELETE", f"/users/me/passkeys/{added['id']}", 204),
            ("DELETE", "/users/me/totp", 204),
        ]
        answers = [await root.request(method, path) for method, path, _ in changes]
        expected = [403 if applies else status for *_, status in changes]
        assert [answer.status_code for answer in answers] == expected
        if applies:
            proof = {"password": PASSWORD, "otp": code_of(secret)}
            assert (await root.post("/users/me/reauthentication", json=proof)).status_code == 204
            assert (await root.delete("/users/me/totp")).status_code == 204
