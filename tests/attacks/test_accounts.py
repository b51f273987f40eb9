"""Attacks on accounts: guesses, addresses that aren't one's own, stolen sessions, and passwords that take long."""

import asyncio
import threading
from datetime import timedelta
from ipaddress import ip_network
from unicodedata import normalize

import pytest
from argon2 import PasswordHasher
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update
from structlog.testing import capture_logs
from zxcvbn.matching import L33T_TABLE

from app.auth.feature import create_credential_service
from app.auth.models import LoginSession
from app.database.models import now
from app.errors import InvalidFields
from app.http import client as http_client
from app.http.feature import Parts
from app.main import create_app
from app.security import password_policy, passwords
from app.security.password_policy import MAX_READINGS, plain_signs
from app.settings import Settings
from app.users.models import User, address_key, login_key
from app.users.repository import UserRepository
from app.users.schemas import UserRead
from tests.auth.oauth import client_from, execute, fetch, new_user, refresh, refreshed, status_of
from tests.factories import PASSWORD, People, add_user, connect_to, log_in, register
from tests.outbox import deliver, token_in

COMBINING = "a" + "\u0301\u0323" * 600
SIGNS = "4@8({[<69!1$5+7%2"


# Guesses --------------------------------------------------------------------------------------------------------------


async def test_failures_of_a_name_that_looks_like_an_id_do_not_count_against_that_account(
    app: Litestar, client: AsyncClient
) -> None:
    user = await add_user(app, "alice")
    for number in range(11):
        await log_in(client, str(user.id), password=f"wrong {number}")
    assert (await log_in(client, "alice")).status_code == 200


async def test_no_id_tells_which_account_a_name_has(app: Litestar, client: AsyncClient) -> None:
    """Once the guesses at a name are used up, the name of every number is still answered like an unknown one."""
    user = await add_user(app, "alice")
    for number in range(10):
        await log_in(client, "alice", password=f"wrong {number}")
    answers = [await log_in(client, str(number)) for number in range(user.id, user.id + 3)]
    assert [answer.status_code for answer in answers] == [401] * 3
    assert len({tuple(sorted(answer.headers.keys())) for answer in answers}) == 1


async def test_simultaneous_logins_after_the_parameters_of_hashes_changed_all_succeed(
    app: Litestar, client: AsyncClient
) -> None:
    """One of them stores the new hash, and the others lose that race only."""
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    await add_user(app, "alice", hashed_password=old)
    answers = await asyncio.gather(*(log_in(client, "alice") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5


# Passwords that take long ---------------------------------------------------------------------------------------------


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads in which passwords were normalised, which takes time by the square of their length."""
    names: list[str] = []

    def normalise(password: str) -> str:
        names.append(threading.current_thread().name)
        return normalize("NFKC", password)

    for module in (passwords, password_policy):
        monkeypatch.setattr(module, "normalise", normalise)
    return names


async def test_a_password_is_normalised_in_a_thread_and_only_when_an_account_can_have_it(
    client: AsyncClient, threads: list[str]
) -> None:
    assert (await register(client, "alice", password="caf\u00e9 au lait")).status_code == 201
    assert (await log_in(client, "alice", password="cafe\u0301 au lait")).status_code == 200
    assert threads
    assert threading.main_thread().name not in threads
    threads.clear()
    assert (await log_in(client, "alice", password=COMBINING)).status_code == 401
    assert threads == []


async def test_a_password_is_judged_in_a_thread(settings: Settings) -> None:
    app = create_app(replace(settings, environment="production"))
    judged = []
    async with connect_to(app) as client:
        policy = app.state.parts.password_policy
        guesses = policy.estimate_guesses

        def judge(password: str) -> float:
            judged.append(threading.current_thread().name)
            return float(guesses(password))

        policy.estimate_guesses = judge
        await register(client, "alice", password=SIGNS)
    assert judged
    assert threading.main_thread().name not in judged


@pytest.mark.parametrize("password", [SIGNS, SIGNS[::-1], "1!|7" * 5, "c(h{e[c<k69!1|7"])
def test_no_mixture_of_signs_can_be_read_in_many_ways(password: str) -> None:
    plain = plain_signs(password, L33T_TABLE)
    ways = 1
    for signs in L33T_TABLE.values():
        ways *= max(1, len(set(signs) & set(plain)))
    assert ways <= MAX_READINGS


async def test_signs_for_letters_still_hide_no_common_password(settings: Settings) -> None:
    parts = Parts(replace(settings, environment="production"))
    service = create_credential_service(parts)
    for password in ("p@ssw0rd1234", "pa$5w0rd!1|7"):
        with pytest.raises(InvalidFields):
            await service.hash_new(password, username="somebody", email="somebody@example.org")
    await parts.database.close()


def test_few_of_many_proxies_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header has room for thousands, each of which would be parsed."""
    parsed = []
    parse = http_client.parse_address

    def counted(text: str) -> object:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(http_client, "parse_address", counted)
    lines = [", ".join(["10.0.0.2"] * 6_000)]
    assert http_client.forwarded_address("10.0.0.1", lines, [ip_network("10.0.0.0/8")]) == "10.0.0.2"
    assert len(parsed) <= http_client.MOST_PROXIES + 1


# Addresses ------------------------------------------------------------------------------------------------------------


async def test_two_domains_are_two_owners(client: AsyncClient) -> None:
    """`\u00df` and `ss` are two letters in names of domains (IDNA 2008)."""
    assert (await register(client, "one", email="max@stra\u00dfe.de")).status_code == 201
    assert (await register(client, "other", email="max@strasse.de")).status_code == 201
    assert (await register(client, "third", email="MAX@STRA\u00dfE.de")).status_code == 400


@pytest.mark.parametrize(
    ("registered", "forms"),
    [
        ("puny@xn--mller-kva.de", ["puny@xn--mller-kva.de", "PUNY@m\u00fcller.de", "puny@mu\u0308ller.de"]),
        ("ze\u0301@example.org", ["ze\u0301@example.org", "Z\u00c9@EXAMPLE.org"]),
        (
            "wide@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.org",
            ["wide@example.org", "wide@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.org"],
        ),
    ],
)
async def test_whatever_registers_signs_in_and_resets(
    app: Litestar, client: AsyncClient, settings: Settings, registered: str, forms: list[str]
) -> None:
    assert (await register(client, "alice", email=registered)).status_code == 201
    await deliver(app, settings)
    for form in forms:
        assert (await log_in(client, form)).status_code == 200, form
        assert (await client.post("/password-reset", json={"email": form})).status_code == 202
        (mail,) = await deliver(app, settings)
        assert mail["Subject"] == "Set a new password"


def test_the_keys_of_names_and_addresses() -> None:
    assert address_key("\u00c9va@stra\u00dfe.de") == address_key("\u00e9va@stra\u00dfe.de")
    assert address_key("max@stra\u00dfe.de") != address_key("max@strasse.de")
    assert login_key("Alice") == "alice"
    assert login_key("x" * 400 + "@example.org") == "x" * 400 + "@example.org"
    assert login_key("no address@") == "no address@"


async def test_a_token_verifies_the_very_address_that_it_was_mailed_to_and_once(
    app: Litestar, people: People, settings: Settings
) -> None:
    """Neither one that differs in case at most, nor the same again after a change there and back."""
    alice = await people.sign_in("alice", email="alice@example.org")
    assert (await alice.post("/email-verification")).status_code == 202
    (mail,) = await deliver(app, settings)
    token = token_in(mail)
    change = {"email": "Alice@example.org", "current_password": PASSWORD}
    assert (await alice.patch("/users/me", json=change)).status_code == 200
    assert (await alice.post("/email-verification/confirm", json={"token": token})).status_code == 400
    back = {"email": "alice@example.org", "current_password": PASSWORD}
    assert (await alice.patch("/users/me", json=back)).status_code == 200
    assert (await alice.post("/email-verification/confirm", json={"token": token})).status_code == 400
    last = [mail for mail in await deliver(app, settings) if mail["Subject"] == "Confirm your e-mail address"][-1]
    assert (await alice.post("/email-verification/confirm", json={"token": token_in(last)})).status_code == 204
    assert (await alice.post("/email-verification/confirm", json={"token": token_in(last)})).status_code == 400


async def test_the_old_address_needs_the_password_too_when_the_owner_has_just_changed_it(
    app: Litestar, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief's request had been read before the owner's change was committed, and is done after it."""
    alice = await people.sign_in("alice", email="old@example.org", email_key="old@example.org")
    read = UserRepository.read

    async def read_before_the_change(users: UserRepository, user_id: int) -> UserRead:
        user = await read(users, user_id)
        new = {"email": "new@example.org", "email_key": "new@example.org"}
        await execute(app, update(User).where(User.id == user_id).values(**new))
        return user

    monkeypatch.setattr(UserRepository, "read", read_before_the_change)
    assert (await alice.patch("/users/me", json={"email": "old@example.org"})).status_code == 403
    assert [row.email for row in await fetch(app, select(User.email))] == ["new@example.org"]


# Stolen sessions ------------------------------------------------------------------------------------------------------


@pytest.mark.in_process("that reach into the application's process")
async def test_a_spent_token_again_and_again_is_logged_and_gets_nothing_more(
    app: Litestar, client: AsyncClient
) -> None:
    """The session lives on: whoever repeats is perhaps the owner's client, in a loop."""
    first = await new_user(app)
    second = await refreshed(client, first)
    with capture_logs() as lines:
        answers = [await refresh(client, first) for _ in range(15)]
    assert [answer.status_code for answer in answers] == [200] * 12 + [400] * 3
    assert [line["event"] for line in lines if line.get("kind") == "security"] == ["refresh_repeated"] * 15
    assert await status_of(client, second) == 200
    third = await refreshed(client, second)
    assert (await refresh(client, second)).status_code == 200
    assert await status_of(client, third) == 200


async def test_the_list_of_sessions_does_not_tell_when_somebody_refreshes(app: Litestar, client: AsyncClient) -> None:
    pair = await new_user(app)
    ago = now() - timedelta(minutes=20)
    await execute(app, update(LoginSession).values(created_at=ago, last_used_at=now(), refreshed_at=ago))
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    before = (await client.get("/users/me/sessions", headers=headers)).json()
    await refreshed(client, pair)
    assert (await client.get("/users/me/sessions", headers=headers)).json() == before
    assert {before[0][name][-4:] for name in ("created_at", "last_used_at", "expires_at")} == {":00Z"}


async def test_one_network_opens_so_many_accounts_in_an_hour(settings: Settings) -> None:
    """Another network goes on, and so do those who have an account."""
    app = create_app(replace(settings, registrations_per_hour=3))
    async with connect_to(app) as client:
        answers = [await register(client, f"user{number}") for number in range(4)]
        assert [answer.status_code for answer in answers] == [201] * 3 + [429]
        assert int(answers[-1].headers["Retry-After"]) > 3000
        assert (await register(client_from(app, "203.0.113.9"), "another")).status_code == 201
        assert (await log_in(client, "user1")).status_code == 200


async def test_limits_tell_clients_apart(app: Litestar, client: AsyncClient) -> None:
    """The attacks above come from one address; another one is let in as ever."""
    await add_user(app, "alice")
    for number in range(10):
        await log_in(client, "alice", password=f"wrong {number}")
    assert (await log_in(client, "alice")).status_code == 429
    assert (await log_in(client_from(app, "203.0.113.9"), "alice")).status_code == 200
