"""Authenticator apps and recovery codes: enrolled, asked for at sign-ins, good once, and removed."""

import asyncio
import base64
import re
from collections.abc import Sequence
from email.message import EmailMessage
from urllib.parse import parse_qs, urlsplit

import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select
from structlog.testing import capture_logs

from app.auth.models import LoginSession
from app.auth.sign_in import PasswordSignIn
from app.factors.codes import matching_steps, new_secret
from app.factors.models import RecoveryCode, Totp
from app.main import create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import bearer, client_from, fetch, open_session, refresh
from tests.auth.test_fresh_sign_in import age
from tests.factories import (
    PASSWORD,
    SECRET,
    People,
    Statements,
    add_user,
    client_of,
    connect_to,
    log_in,
    on_sqlite,
    token_of,
)
from tests.factors.totp import code_of, enrol, forget_steps, log_in_with, stop_clock, wrong_code_of
from tests.outbox import deliver
from tests.problems import assert_oauth_error, assert_problem

WRONG = "Incorrect username or password"


def subjects(mails: Sequence[EmailMessage]) -> list[str]:
    """Return the subjects of mails."""
    return [mail["Subject"] for mail in mails]


async def amr_of(client: AsyncClient) -> list[str]:
    """Return how the client's own session was signed in."""
    sessions = (await client.get("/users/me/sessions")).json()
    (own,) = [session["amr"] for session in sessions if session["current"]]
    methods: list[str] = own
    return methods


async def signed_in(app: Litestar, answer: Response) -> AsyncClient:
    """Return a client with the access token of an answer."""
    assert answer.status_code == 200, answer.text
    return client_of(app, **bearer(answer.json()))


async def test_from_enrolment_to_removal(
    app: Litestar, client: AsyncClient, alice: AsyncClient, people: People, settings: Settings
) -> None:
    """The story of one account, its sessions, and the mails to its owner."""
    user_id = (await alice.get("/users/me")).json()["id"]
    other = await people.sign_in_again(user_id)
    nothing: dict[str, object] = {"totp": None, "recovery_codes_left": 0, "passkeys": []}
    assert (await alice.get("/users/me/factors")).json() == nothing
    added = await alice.post("/users/me/totp")
    assert (added.status_code, added.headers["Cache-Control"]) == (201, "no-store")
    assert (await log_in(client, "alice")).status_code == 200  # A pending one asks nobody for anything.
    assert (await alice.get("/users/me/factors")).json() == nothing
    code = code_of(added.json()["secret"])
    confirmed = await alice.post("/users/me/totp/confirm", json={"code": code})
    assert (confirmed.status_code, confirmed.headers["Cache-Control"]) == (200, "no-store")
    factors = (await alice.get("/users/me/factors")).json()
    assert factors["totp"]["created_at"]
    assert factors["recovery_codes_left"] == len(set(confirmed.json()["recovery_codes"])) == 10
    assert (await other.get("/users/me")).status_code == 401
    assert await amr_of(alice) == ["pwd", "otp", "mfa"]
    assert subjects(await deliver(app, settings)) == ["Your second factor is on"]

    assert_oauth_error(await log_in_with(client, code), 401, "invalid_grant", WRONG)  # The code has confirmed it.
    await forget_steps(app)
    second = await signed_in(app, await log_in_with(client, code))
    assert await amr_of(second) == ["pwd", "otp", "mfa"]
    assert_problem(await second.post("/users/me/totp"), 409, "An authenticator app is active already")

    assert (await second.delete("/users/me/totp")).status_code == 204
    assert (await alice.get("/users/me/factors")).json() == nothing
    assert await amr_of(alice) == await amr_of(second) == ["pwd"]
    assert (await log_in(client, "alice")).status_code == 200
    assert subjects(await deliver(app, settings)) == ["Your second factor is off"]
    assert await fetch(app, select(RecoveryCode.digest)) == []


async def test_without_a_code_a_right_password_is_told_that_one_is_needed(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    """A wrong password is told nothing of it, with or without a code."""
    secret, _ = await enrol(app, alice)
    needed = await log_in(client, "alice")
    assert_oauth_error(needed, 403, "mfa_required", "A code of the second factor is needed")
    assert_oauth_error(await log_in_with(client, ""), 403, "mfa_required")
    assert_oauth_error(await log_in(client, "alice", password="wrong"), 401, "invalid_grant", WRONG)
    wrong = await log_in_with(client, code_of(secret), password="wrong")
    assert_oauth_error(wrong, 401, "invalid_grant", WRONG)
    refused = await log_in_with(client, wrong_code_of(secret))
    assert_oauth_error(refused, 401, "invalid_grant", WRONG)
    assert wrong.headers["WWW-Authenticate"] == refused.headers["WWW-Authenticate"] == "Bearer"
    assert (await log_in_with(client, code_of(secret), username="alice@example.org")).status_code == 200


async def test_a_code_is_ignored_where_there_is_no_factor(app: Litestar, client: AsyncClient) -> None:
    await add_user(app, "alice")
    assert (await log_in_with(client, "123456")).status_code == 200


async def test_of_twelve_who_sign_in_with_one_code_at_once_one_does(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    secret, _ = await enrol(app, alice)
    code = code_of(secret)
    answers = await asyncio.gather(*(log_in_with(client, code) for _ in range(12)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {401, 429}
    assert len(await fetch(app, select(LoginSession.id))) == 2  # alice's, who enrolled, and the one


async def test_of_twelve_who_use_one_recovery_code_at_once_one_gets_in(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    _, codes = await enrol(app, alice)
    answers = await asyncio.gather(*(log_in_with(client, codes[0]) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers)[:2] == [200, 401]
    assert (await alice.get("/users/me/factors")).json()["recovery_codes_left"] == 9


async def test_the_codes_before_and_after_are_accepted_and_none_twice(
    app: Litestar, client: AsyncClient, alice: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code that comes after a later one was used is refused, too (RFC 6238, section 5.2)."""
    stop_clock(monkeypatch)
    secret, _ = await enrol(app, alice)
    codes = [code_of(secret, offset=offset) for offset in (-1, 0, 1)]
    for code in codes:
        assert (await log_in_with(client, code)).status_code == 200
    assert [(await log_in_with(client, code)).status_code for code in codes] == [401] * 3


def test_only_three_steps_are_accepted() -> None:
    secret = base64.b32encode(b"12345678901234567890").decode()
    # RFC 6238, appendix B: at this time the eight digits are 07081804.
    at = 1_111_111_109
    accepted = [offset for offset in range(-3, 4) if list(matching_steps(secret, "081804", at + 30 * offset))]
    assert accepted == [-1, 0, 1]
    assert list(matching_steps(secret, "081804", at + 30)) == [at // 30]


async def test_a_recovery_code_signs_in_once_however_it_is_typed(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    _, codes = await enrol(app, alice)
    assert all(re.fullmatch("([a-z2-7]{4}-){5}[a-z2-7]{4}", code) for code in codes)
    typed = [codes[0], codes[1].upper(), codes[2].replace("-", " "), codes[3].replace("-", "")]
    for code in typed:
        assert await amr_of(await signed_in(app, await log_in_with(client, code))) == ["pwd", "otp", "mfa"]
    for code in (*typed, codes[4][:-1]):
        assert (await log_in_with(client, code)).status_code == 401
    assert (await alice.get("/users/me/factors")).json()["recovery_codes_left"] == 6


async def test_new_recovery_codes_void_the_old_ones(
    app: Litestar, client: AsyncClient, alice: AsyncClient, settings: Settings
) -> None:
    _, old = await enrol(app, alice)
    await deliver(app, settings)
    answer = await alice.post("/users/me/recovery-codes")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    new = answer.json()["recovery_codes"]
    assert len({*old, *new}) == 20
    assert (await log_in_with(client, old[0])).status_code == 401
    assert (await log_in_with(client, new[0])).status_code == 200
    assert subjects(await deliver(app, settings)) == ["You have new recovery codes"]


async def test_what_has_no_factor_can_neither_remove_nor_renew_it(alice: AsyncClient) -> None:
    unasked = await alice.post("/users/me/totp/confirm", json={"code": "123456"})
    assert_problem(unasked, 409, "No authenticator app waits for its first code")
    for _ in range(2):
        assert_problem(await alice.delete("/users/me/totp"), 404, "There is no second factor")
        assert_problem(await alice.post("/users/me/recovery-codes"), 404, "There is no second factor")
        assert (await alice.post("/users/me/totp")).status_code == 201  # It is pending, and no second factor yet.


async def test_a_pending_secret_is_replaced_by_the_next(app: Litestar, alice: AsyncClient) -> None:
    first, second = [(await alice.post("/users/me/totp")).json()["secret"] for _ in range(2)]
    assert first != second
    refused = await alice.post("/users/me/totp/confirm", json={"code": wrong_code_of(second)})
    assert_problem(refused, 403, "The code is wrong")
    assert (await alice.post("/users/me/totp/confirm", json={"code": code_of(second)})).status_code == 200
    assert_problem(await alice.post("/users/me/totp/confirm", json={"code": code_of(second)}), 409)
    assert len(await fetch(app, select(Totp.user_id))) == 1


async def test_of_two_who_confirm_at_once_one_gets_codes(app: Litestar, alice: AsyncClient) -> None:
    """The other's would be void."""
    secret = (await alice.post("/users/me/totp")).json()["secret"]
    code = {"code": code_of(secret)}
    answers = await asyncio.gather(*(alice.post("/users/me/totp/confirm", json=code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(await fetch(app, select(RecoveryCode.digest))) == 10


@on_sqlite
async def test_the_secret_comes_in_three_forms(app: Litestar, alice: AsyncClient) -> None:
    """Every app takes one of them: SHA-1, six digits and 30 seconds are what all can."""
    body = (await alice.post("/users/me/totp")).json()
    assert len(base64.b32decode(body["secret"])) == 20
    uri = urlsplit(body["uri"])
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Backend%20API:alice")
    assert parse_qs(uri.query) == {"secret": [body["secret"]], "issuer": ["Backend API"]}
    assert body["qr"].startswith("<svg ")
    assert "<script" not in body["qr"]
    (row,) = await fetch(app, select(Totp.secret))
    assert body["secret"].encode() not in row.secret


# Fresh sign-ins, and other people's ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("POST", "totp"), ("DELETE", "totp"), ("POST", "recovery-codes")])
async def test_whoever_finds_a_session_changes_no_factor(
    app: Litestar, alice: AsyncClient, method: str, path: str
) -> None:
    await age(app, 11)
    answer = await alice.request(method, f"/users/me/{path}")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_user_authentication", max_age="600"'
    assert (await alice.get("/users/me/factors")).status_code == 200


async def test_a_token_of_a_scope_reads_and_changes_no_factor(app: Litestar, client: AsyncClient) -> None:
    user = await add_user(app, "alice")
    headers = bearer(await open_session(app, user.id, scope="account:read account:write"))
    calls = [("GET", "factors"), ("POST", "totp"), ("DELETE", "totp"), ("POST", "recovery-codes")]
    for method, path in calls:
        answer = await client.request(method, f"/users/me/{path}", headers=headers)
        assert_problem(answer, 403, "Not allowed with this token")


async def test_a_password_reset_keeps_the_second_factor(app: Litestar, client: AsyncClient, alice: AsyncClient) -> None:
    await enrol(app, alice)
    user_id = (await alice.get("/users/me")).json()["id"]
    await client.post("/password-reset", json={"email": "alice@example.org"})
    assert (await log_in(client, "alice")).status_code == 403
    changed = {"current_password": PASSWORD, "new_password": "a new and better one"}
    assert (await alice.put("/users/me/password", json=changed)).status_code == 204
    assert_oauth_error(await log_in(client, "alice", password="a new and better one"), 403, "mfa_required")
    assert (await fetch(app, select(User.second_factor).where(User.id == user_id)))[0][0]


# Wrong codes ---------------------------------------------------------------------------------------------------------


async def test_ten_wrong_codes_stop_whoever_knows_the_password_and_nobody_else(
    app: Litestar, client: AsyncClient, alice: AsyncClient, settings: Settings
) -> None:
    """They count from all networks together; the owner is mailed once, and a session that is there goes on."""
    secret, codes = await enrol(app, alice)
    await deliver(app, settings)
    wrong = wrong_code_of(secret)
    for number in range(10):
        answer = await log_in_with(client_from(app, f"192.0.2.{number}"), wrong)
        assert answer.status_code == 401
    for otp in (code_of(secret), codes[0], wrong, ""):
        limited = await log_in_with(client_from(app, "198.51.100.1"), otp)
        assert_problem(limited, 429)
        assert 0 < int(limited.headers["Retry-After"]) <= 900
    assert_oauth_error(await log_in(client, "alice", password="wrong"), 401, "invalid_grant", WRONG)
    assert subjects(await deliver(app, settings)) == ["Somebody may know your password"]
    assert (await alice.get("/users/me")).status_code == 200
    assert (await alice.get("/users/me/factors")).json()["recovery_codes_left"] == 10


@pytest.mark.usefixtures("alice")
async def test_wrong_passwords_lock_nobody_out_of_their_codes(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    """A stranger, who doesn't know the password, can't use the owner's wrong codes up."""
    secret, _ = await enrol(app, alice)
    stranger = client_from(app, "198.51.100.9")
    for _ in range(11):
        await log_in_with(stranger, "000000", password="wrong")
    assert (await log_in_with(client, code_of(secret))).status_code == 200


async def test_wrong_codes_at_the_enrolment_count_too(alice: AsyncClient) -> None:
    secret = (await alice.post("/users/me/totp")).json()["secret"]
    wrong = {"code": wrong_code_of(secret)}
    answers = [await alice.post("/users/me/totp/confirm", json=wrong) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [403] * 10 + [429]
    assert_problem(await alice.post("/users/me/totp/confirm", json={"code": code_of(secret)}), 429)


# Races with a sign-in ------------------------------------------------------------------------------------------------


async def test_a_sign_in_that_began_before_the_enrolment_ends_opens_no_session(
    app: Litestar, client: AsyncClient, alice: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its password was checked while there was no second factor."""
    secret = (await alice.post("/users/me/totp")).json()["secret"]
    check = PasswordSignIn.check_second_step

    async def enrol_meanwhile(self: PasswordSignIn, *arguments: object) -> str:
        amr = await check(self, *arguments)  # type: ignore[arg-type] # the same arguments
        await alice.post("/users/me/totp/confirm", json={"code": code_of(secret)})
        return amr

    monkeypatch.setattr(PasswordSignIn, "check_second_step", enrol_meanwhile)
    assert_oauth_error(await log_in(client, "alice"), 401, "invalid_grant")
    assert len(await fetch(app, select(LoginSession.id))) == 1


async def test_a_sign_in_with_a_code_outlives_no_removal(
    app: Litestar, client: AsyncClient, alice: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its session would have the level of a factor that is gone."""
    secret, _ = await enrol(app, alice)
    check = PasswordSignIn.check_second_step

    async def remove_meanwhile(self: PasswordSignIn, *arguments: object) -> str:
        amr = await check(self, *arguments)  # type: ignore[arg-type] # the same arguments
        assert (await alice.delete("/users/me/totp")).status_code == 204
        return amr

    monkeypatch.setattr(PasswordSignIn, "check_second_step", remove_meanwhile)
    assert_oauth_error(await log_in_with(client, code_of(secret)), 401, "invalid_grant")
    assert await fetch(app, select(LoginSession.amr)) == [("pwd",)]


# Keys ----------------------------------------------------------------------------------------------------------------


async def test_a_new_key_reads_what_the_old_one_encrypted_and_encrypts_it_anew(
    app: Litestar, alice: AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_clock(monkeypatch)
    secret, codes = await enrol(app, alice)
    (old,) = await fetch(app, select(Totp.secret))
    new = SECRET[::-1]
    rotated = create_app(replace(settings, secret_key=new, secret_key_previous=SECRET))
    async with connect_to(rotated) as later:
        assert (await log_in_with(later, code_of(secret, offset=-1))).status_code == 200
    (again,) = await fetch(app, select(Totp.secret))
    assert again != old
    only_new = create_app(replace(settings, secret_key=new))
    async with connect_to(only_new) as later:
        assert (await log_in_with(later, code_of(secret))).status_code == 200
    only_other = create_app(replace(settings, secret_key=SECRET.upper()))
    async with connect_to(only_other) as later:
        with capture_logs() as lines:
            assert (await log_in_with(later, code_of(secret, offset=1))).status_code == 401
        assert "totp secret unreadable" in [line["event"] for line in lines]
        assert (await log_in_with(later, codes[0])).status_code == 200  # They need no key.


# Costs, and what is logged -------------------------------------------------------------------------------------------


async def test_who_has_no_factor_pays_no_statement_for_it(
    app: Litestar, client: AsyncClient, statements: Statements
) -> None:
    await add_user(app, "alice")
    statements.clear()
    assert (await log_in(client, "alice")).status_code == 200
    kinds = [statement.split()[0] for statement in statements]
    # The last INSERT is the event's.
    assert kinds == ["SELECT", "BEGIN", "SELECT", "INSERT", "DELETE", "INSERT", "COMMIT"]


@on_sqlite
async def test_no_code_is_logged(
    app: Litestar, client: AsyncClient, alice: AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as lines:
        secret, codes = await enrol(app, alice)
        code = code_of(secret)
        await log_in_with(client, code)
        await log_in_with(client, code)
        await log_in_with(client, codes[0])
        await alice.delete("/users/me/totp")
    told = [line["event"] for line in lines if line.get("kind") == "security"]
    assert told == ["totp_added", "login", "login_failed", "recovery_code_used", "login", "totp_removed"]
    (refused,) = [line for line in lines if line["event"] == "login_failed"]
    assert refused["factor"] == "otp"
    text = f"{lines}{capsys.readouterr().out}"
    assert not [part for part in (secret, code, *codes) if part in text]
    assert token_of(alice) not in text


async def test_a_refresh_keeps_the_level(app: Litestar, client: AsyncClient, alice: AsyncClient) -> None:
    secret, _ = await enrol(app, alice)
    pair = (await log_in_with(client, code_of(secret))).json()
    assert await amr_of(await signed_in(app, await refresh(client, pair))) == ["pwd", "otp", "mfa"]


def test_a_code_of_other_letters_is_a_wrong_one() -> None:
    assert list(matching_steps(new_secret(), "１２３４５６", 1e9)) == []  # noqa: RUF001 - digits, but not those of a code
