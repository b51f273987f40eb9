"""The rights of superusers over the accounts of others, which nobody else has."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import Integer, delete, func, literal_column, select, text, update

from app.auth.models import LoginSession
from app.database.sessions import Database
from app.items.models import Item
from app.main import create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import execute, fetch, new_user, open_session, refresh, status_of
from tests.factories import People, add_user, connect_to, create_item, log_in, on_postgresql, register
from tests.problems import assert_problem, pointers

ONLY = "Only superusers may do this"
LAST = "The last superuser can't be disabled, demoted or deleted"
MISSING = "User not found"
SUPERUSERS = select(func.count()).select_from(User).where(User.is_superuser, User.is_active)


async def id_of(client: AsyncClient) -> int:
    """Return the id of the user who is signed in."""
    number: int = (await client.get("/users/me")).json()["id"]
    return number


async def test_a_superuser_reads_any_account(root: AsyncClient, alice: AsyncClient, app: Litestar) -> None:
    """The superuser sees what its owner sees, without the password's hash."""
    expected = (await alice.get("/users/me")).json()
    answer = await root.get(f"/users/{expected['id']}")
    assert answer.status_code == 200
    assert answer.json() == expected
    sleeper = await add_user(app, "sleeper", is_active=False)
    assert (await root.get(f"/users/{sleeper.id}")).json()["is_active"] is False


async def test_everybody_reads_their_own_account_by_its_id(people: People, alice: AsyncClient) -> None:
    """Any other id is refused, whether it exists or not."""
    bob = await add_user(people.app, "bob")
    me = (await alice.get("/users/me")).json()
    assert (await alice.get(f"/users/{me['id']}")).json() == me
    for user_id in (bob.id, 12345):
        assert_problem(await alice.get(f"/users/{user_id}"), 403, ONLY)


async def test_others_may_change_and_delete_nobody(people: People, alice: AsyncClient) -> None:
    """Nobody may change themselves by this way, so nobody promotes themselves."""
    bob = await add_user(people.app, "bob")
    for user_id in (await id_of(alice), bob.id, 12345):
        assert_problem(await alice.patch(f"/users/{user_id}", json={"is_superuser": True}), 403, ONLY)
        assert_problem(await alice.delete(f"/users/{user_id}"), 403, ONLY)
    assert_problem(await alice.get("/users"), 403, ONLY)
    assert (await alice.get("/users/me")).json()["is_superuser"] is False


async def test_an_account_that_is_not_there_is_not_found(root: AsyncClient) -> None:
    """An id that no account can have isn't found either."""
    assert_problem(await root.get("/users/12345"), 404, MISSING)
    assert_problem(await root.patch("/users/12345", json={"is_active": True}), 404, MISSING)
    assert_problem(await root.delete("/users/12345"), 404, MISSING)
    for name in ("0", "-1", "x", 2**63):
        assert_problem(await root.get(f"/users/{name}"), 404)
    assert (await root.get(f"/users/{2**63 - 1}")).status_code == 404


async def test_a_disabled_user_is_out_at_once_and_back_when_enabled(
    root: AsyncClient, app: Litestar, client: AsyncClient
) -> None:
    """Their live token fails on its next use, and they can't log in or refresh."""
    pair = await new_user(app, "alice")
    (user_id,) = (await fetch(app, select(User.id).where(User.username == "alice")))[0]
    answer = await root.patch(f"/users/{user_id}", json={"is_active": False})
    assert answer.status_code == 200
    assert answer.json()["is_active"] is False
    assert await status_of(client, pair) == 401
    assert (await refresh(client, pair)).status_code == 400
    assert (await log_in(client, "alice")).status_code == 401
    assert (await root.patch(f"/users/{user_id}", json={"is_active": True})).json()["is_active"] is True
    assert (await log_in(client, "alice")).status_code == 200


async def test_disabling_a_user_ends_their_sessions_for_good(
    root: AsyncClient, app: Litestar, client: AsyncClient
) -> None:
    """Stolen tokens are worth nothing when the user is enabled again; other users notice nothing."""
    alice, bob = await new_user(app, "alice"), await new_user(app, "bob")
    second = (await log_in(client, "alice")).json()
    ((user_id,),) = await fetch(app, select(User.id).where(User.username == "alice"))
    for is_active in (False, True):
        assert (await root.patch(f"/users/{user_id}", json={"is_active": is_active})).status_code == 200
    assert [await status_of(client, pair) for pair in (alice, second, bob)] == [401, 401, 200]
    assert (await refresh(client, alice)).json()["error"] == "invalid_grant"


async def test_a_login_while_its_user_is_disabled_leaves_no_session(
    root: AsyncClient, app: Litestar, client: AsyncClient
) -> None:
    """The login comes before and is ended, or comes after and is refused."""
    alice = await add_user(app, "alice")
    attempts = [log_in(client, "alice") for _ in range(6)]
    disabled, *logins = await asyncio.gather(root.patch(f"/users/{alice.id}", json={"is_active": False}), *attempts)
    assert disabled.status_code == 200
    assert {login.status_code for login in logins} <= {200, 401}
    assert await fetch(app, select(LoginSession.id).where(LoginSession.user_id == alice.id)) == []


async def test_rights_count_from_the_next_request_on(root: AsyncClient, alice: AsyncClient) -> None:
    """They count with the token that the user already has, both when given and when taken."""
    path = f"/users/{await id_of(alice)}"
    other = f"/users/{await id_of(root)}"
    assert (await alice.get(other)).status_code == 403
    assert (await root.patch(path, json={"is_superuser": True})).json()["is_superuser"] is True
    assert (await alice.get(other)).status_code == 200
    assert (await root.patch(path, json={"is_superuser": False})).json()["is_superuser"] is False
    assert_problem(await alice.get(other), 403, ONLY)


async def test_absent_rights_stay_as_they_are(root: AsyncClient, alice: AsyncClient) -> None:
    path = f"/users/{await id_of(alice)}"
    before = (await root.get(path)).json()
    assert (await root.patch(path, json={})).json() == before
    assert (await root.patch(path, json={"is_superuser": True})).json() == before | {"is_superuser": True}
    assert (await root.patch(path, json={"is_active": True})).json() == before | {"is_superuser": True}


async def test_a_superuser_changes_rights_and_nothing_else(root: AsyncClient, alice: AsyncClient) -> None:
    """Password, name and address are the owner's alone."""
    path = f"/users/{await id_of(alice)}"
    for body, names in [
        ({"password": "new"}, ["/password"]),
        ({"username": "x", "email": "x@example.org"}, ["/email", "/username"]),
        ({"hashed_password": "x", "email_verified": True}, ["/email_verified", "/hashed_password"]),
        ({"is_active": None}, ["/is_active"]),
        ({"is_active": 0, "is_superuser": "true"}, ["/is_active", "/is_superuser"]),
    ]:
        assert pointers(await root.patch(path, json=body)) == names, body


async def test_deleting_an_account_takes_all_that_belongs_to_it(
    root: AsyncClient, alice: AsyncClient, app: Litestar, client: AsyncClient
) -> None:
    """Its items and sessions go, and the superuser's own stay."""
    for owner in (root, alice):
        assert (await create_item(owner)).status_code == 201
    root_id, alice_id = await id_of(root), await id_of(alice)
    assert (await root.delete(f"/users/{alice_id}")).status_code == 204
    assert (await alice.get("/users/me")).status_code == 401
    assert (await log_in(client, "alice")).status_code == 401
    assert_problem(await root.get(f"/users/{alice_id}"), 404, MISSING)
    assert [row[0] for row in await fetch(app, select(Item.owner_id))] == [root_id]
    assert [row[0] for row in await fetch(app, select(LoginSession.user_id))] == [root_id]


@pytest.mark.parametrize("method", ["demote", "disable", "delete"])
async def test_the_last_superuser_stays(people: People, root: AsyncClient, app: Litestar, method: str) -> None:
    """Users without the rights and disabled superusers don't count."""
    await people.sign_in("alice")
    await add_user(app, "sleeper", is_superuser=True, is_active=False)
    path = f"/users/{await id_of(root)}"
    assert_problem(await take(root, path, method), 409, LAST)
    assert (await root.get("/users/me")).json()["is_superuser"] is True
    assert (await root.patch(path, json={"is_active": True, "is_superuser": True})).status_code == 200
    await execute(app, update(User).values(is_superuser=True, is_active=True))
    assert (await take(root, path, method)).is_success


async def test_a_superuser_who_is_disabled_can_be_demoted_and_deleted(root: AsyncClient, app: Litestar) -> None:
    """The caller remains, so they aren't the last one."""
    sleeper = await add_user(app, "sleeper", is_superuser=True, is_active=False)
    assert (await root.patch(f"/users/{sleeper.id}", json={"is_superuser": False})).status_code == 200
    assert (await root.delete(f"/users/{sleeper.id}")).status_code == 204


@pytest.mark.parametrize("method", ["demote", "disable", "delete"])
async def test_two_superusers_who_remove_each_other_leave_exactly_one(
    people: People, app: Litestar, method: str
) -> None:
    """The later one finds that nobody else is left, or is no superuser any more."""
    one, two = [await people.sign_in(name, is_superuser=True) for name in ("one", "two")]
    paths = [f"/users/{await id_of(client)}" for client in (two, one)]
    answers = await asyncio.gather(take(one, paths[0], method), take(two, paths[1], method))
    assert sorted(answer.status_code for answer in answers)[1] in {401, 403, 409}
    assert [answer.is_success for answer in answers].count(True) == 1
    assert (await fetch(app, SUPERUSERS))[0][0] == 1


async def test_eight_superusers_who_leave_at_once_leave_exactly_one(people: People, app: Litestar) -> None:
    """The last one to ask is refused."""
    everybody = [await people.sign_in(f"root{number}", is_superuser=True) for number in range(8)]
    answers = await asyncio.gather(*(client.delete("/users/me") for client in everybody))
    assert sorted(answer.status_code for answer in answers) == [204] * 7 + [409]
    assert (await fetch(app, SUPERUSERS))[0][0] == 1


async def test_a_superuser_has_a_reset_mailed_as_anybody_has(root: AsyncClient, app: Litestar) -> None:
    """They name the address, and the token goes to its owner."""
    user = await add_user(app, "alice")
    answer = await root.post("/password-reset", json={"email": user.email})
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})


async def test_a_disabled_superuser_has_no_rights(app: Litestar, client: AsyncClient) -> None:
    """Their token is worth nothing at all."""
    root = await add_user(app, "root", is_superuser=True)
    pair = await open_session(app, root.id)
    await execute(app, update(User).values(is_active=False))
    assert await status_of(client, pair) == 401
    assert (await log_in(client, "root")).status_code == 401


async def test_while_registration_is_closed_nobody_registers(settings: Settings) -> None:
    """Existing accounts go on, and the answer doesn't tell whether a name is taken."""
    app = create_app(replace(settings, registration="closed"))
    async with connect_to(app) as client:
        pair = await new_user(app, "alice")
        for name in ("alice", "bob"):
            assert_problem(await register(client, name), 403, "Registration is closed")
        assert await status_of(client, pair) == 200
        assert (await log_in(client, "alice")).status_code == 200
        assert [row[0] for row in await fetch(app, select(User.username))] == ["alice"]


async def take(client: AsyncClient, path: str, method: str) -> Response:
    """Take an account's rights, or the account."""
    ways: dict[str, Callable[[], Awaitable[Response]]] = {
        "demote": lambda: client.patch(path, json={"is_superuser": False}),
        "disable": lambda: client.patch(path, json={"is_active": False}),
        "delete": lambda: client.delete(path),
    }
    return await ways[method]()


WAITING = (
    select(literal_column("pid", Integer()))
    .select_from(text("pg_stat_activity"))
    .where(text("datname = current_database() AND wait_event_type = 'Lock'"))
)


@on_postgresql
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/users/me", {"username": "alicia"}),
        ("PATCH", "/users/{id}", {"is_active": False}),
        ("DELETE", "/users/{id}", None),
        ("DELETE", "/users/me", None),
    ],
)
async def test_what_comes_to_an_account_while_it_is_deleted_finds_none(
    root: AsyncClient, alice: AsyncClient, database: Database, method: str, path: str, body: dict[str, object] | None
) -> None:
    """It waits for the end of the other transaction; SQLite lets but one write at a time."""
    alice_id = await id_of(alice)
    caller = alice if path == "/users/me" else root
    async with database.transaction() as transaction:
        await transaction.execute(delete(User).where(User.id == alice_id))
        late = asyncio.create_task(caller.request(method, path.format(id=alice_id), json=body))
        while not late.done() and not await database.fetch(WAITING, {}):  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)
    assert_problem(await late, 404, MISSING)
