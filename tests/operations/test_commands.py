"""The operator's commands."""

import asyncio
import re
import sys
from functools import partial
from pathlib import Path

import click
import httpx
import pytest
from anyio import to_thread
from httpx import AsyncClient
from litestar import Litestar
from sqlalchemy import select

from app.database.sessions import Database
from app.factors.models import RecoveryCode
from app.http.feature import Parts
from app.jobs.models import Payload
from app.operations.commands import job_commands
from app.settings import Settings
from tests.auth.oauth import fetch
from tests.factories import PASSWORD, SECRET, add_user, on_sqlite, open_database, register
from tests.jobs.workers import SOON_SECONDS, Recorder, add, fail, jobs_in, numbered, worker_of
from tests.operations.cli import invoke, litestar
from tests.programs import environment, run, service

ACCOUNT = ["--username", "root", "--email", "root@example.org"]
FROM_ENVIRONMENT = {"SUPERUSER_PASSWORD": PASSWORD}


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that isn't there yet."""
    return f"sqlite:///{tmp_path / 'file'}"


# As programs of their own ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_route_table_shows_who_may_call_each_route(tmp_path: Path, file_url: str) -> None:
    """It needs no database, and makes none."""
    ended = run(tmp_path, "litestar", "--app", "app.main:app", "route-table", SECRET_KEY=SECRET, DATABASE_URL=file_url)
    lines = [re.split("  +", line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 0
    assert ["POST", "/token", "public"] in lines
    assert ["POST", "/users", "public"] in lines
    assert ["GET", "/users/me", "signed in", "account:read"] in lines
    assert ["DELETE", "/users/me", "signed in, fresh"] in lines
    assert ["DELETE", "/items/{item_id}", "signed in", "items:write"] in lines
    assert ["GET", "/users", "superuser", "users:read"] in lines
    assert not (tmp_path / "file").exists()


@pytest.mark.slow
def test_a_superuser_who_was_created_signs_in_to_the_running_service(
    tmp_path: Path, free_tcp_port: int, file_url: str
) -> None:
    url = f"http://127.0.0.1:{free_tcp_port}"
    variables = {"SECRET_KEY": SECRET, "DATABASE_URL": file_url}
    with service(tmp_path, free_tcp_port, **variables):
        command = ["litestar", "--app", "app.main:app", "create-superuser", *ACCOUNT]
        ended = run(tmp_path, *command, **variables, **FROM_ENVIRONMENT)
        assert ended.returncode == 0
        token = httpx.post(f"{url}/token", data={"username": "root", "password": PASSWORD}).json()["access_token"]
        assert httpx.get(f"{url}/users/me", headers={"Authorization": f"Bearer {token}"}).json()["is_superuser"] is True


@pytest.mark.slow
@on_sqlite
async def test_a_worker_of_its_own_runs_until_it_is_terminated(
    client: AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    await register(client, "alice")
    variables = environment(
        SECRET_KEY=settings.secret_key, DATABASE_URL=settings.database_url, MAIL_DIR=settings.mail_dir
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "litestar", "--app", "app.main:app", "jobs", "work"),
        cwd=tmp_path,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = b""
    while b"job_done" not in output:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line, output
        output += line
    process.terminate()
    assert await asyncio.wait_for(process.wait(), SOON_SECONDS) == 0
    [mail] = Path(settings.mail_dir).iterdir()  # noqa: ASYNC240 - a moment's work
    assert str(mail).encode() in output
    assert "To: alice@example.org\n" in mail.read_text()


# Superusers -----------------------------------------------------------------------------------------------------------


def test_a_superuser_is_created_once_by_the_rules_of_registration(own_database_url: str) -> None:
    status, output = litestar(own_database_url, "create-superuser", *ACCOUNT, **FROM_ENVIRONMENT)
    assert (status, output) == (0, "Superuser root has id 1\n")
    status, output = litestar(own_database_url, "create-superuser", *ACCOUNT, **FROM_ENVIRONMENT)
    assert (status, output) == (1, "Username or email already registered\n")


def test_a_script_pipes_the_password_in(own_database_url: str) -> None:
    """The end of the line is no part of it; without a password the account isn't opened."""
    status, output = litestar(own_database_url, "create-superuser", *ACCOUNT)
    assert (status, output.count("\n"), "password" in output) == (1, 1, True)
    status, output = litestar(own_database_url, "create-superuser", *ACCOUNT, typed=f"{PASSWORD}\r\nmore\n")
    assert (status, output) == (0, "Superuser root has id 1\n")


def test_whoever_sits_at_a_terminal_types_the_password_twice_and_nobody_sees_it(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = f"{PASSWORD}\na slip\n{PASSWORD}\n{PASSWORD}\n"
    monkeypatch.setattr("app.users.commands.is_at_terminal", lambda: True)
    status, output = litestar(own_database_url, "create-superuser", *ACCOUNT, typed=typed)
    assert (status, output.splitlines()[-1]) == (0, "Superuser root has id 1")
    assert PASSWORD not in output


def test_no_password_is_taken_from_the_command_line(file_url: str) -> None:
    """Everybody on the machine sees the arguments of a program."""
    status, output = litestar(file_url, "create-superuser", *ACCOUNT, "--password", PASSWORD)
    assert status == 2
    assert "SUPERUSER_PASSWORD" in output
    assert PASSWORD not in output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--username", ".root"], "username must be a string of 1 to 64 characters"),
        (["--email", "root-of-nowhere"], "email must be an e-mail address"),
    ],
    ids=["username", "email"],
)
def test_a_wrong_field_is_named_in_one_line(file_url: str, arguments: list[str], line: str) -> None:
    status, output = litestar(file_url, "create-superuser", *ACCOUNT, *arguments, **FROM_ENVIRONMENT)
    assert status == 1
    assert line in output
    assert output.count("\n") == 1


def test_a_database_that_is_away_is_one_line_without_its_password() -> None:
    status, output = litestar("postgresql://u:canary@127.0.0.1:1/n", "create-superuser", *ACCOUNT, **FROM_ENVIRONMENT)
    assert (status, output) == (1, "The service is temporarily unavailable; try again\n")


# Second factors -------------------------------------------------------------------------------------------------------


async def test_an_operator_resets_the_factors_of_one_account(app: Litestar, parts: Parts, settings: Settings) -> None:
    """By either name; an account that isn't there is one line."""
    alice, bob = await add_user(app, "alice"), await add_user(app, "bob")
    async with parts.database.transaction() as transaction:
        for user in (alice, bob):
            transaction.add(RecoveryCode(user_id=user.id, digest=b"0" * 32))
    command = partial(to_thread.run_sync, litestar, settings.database_url, "reset-factors")
    assert await command("ALICE@example.org") == (0, f"User {alice.id} has no second factor any more\n")
    assert await command("carol") == (1, "There is no account with the name carol\n")
    assert [row.user_id for row in await fetch(app, select(RecoveryCode.user_id))] == [bob.id]


# Jobs -----------------------------------------------------------------------------------------------------------------


async def jobs(url: str, *arguments: str) -> tuple[int, str]:
    """Run a command of the group `jobs`, whose worker knows one kind; return its exit status and what it printed."""
    worker = worker_of(Database(url), Recorder())
    group = click.Group(commands=[job_commands(worker.queue, worker)])
    return await to_thread.run_sync(invoke, group, ["jobs", *arguments])


async def add_dead_letters(url: str, *payloads: Payload) -> None:
    """Enqueue jobs and give each up after its first attempt."""
    async with open_database(url) as database:
        await add(database, *payloads)
        await worker_of(database, fail, max_attempts=1).run_due()


async def test_an_operator_lists_dead_letters_without_their_payloads(database_url: str) -> None:
    assert await jobs(database_url, "dead") == (0, "")
    await add_dead_letters(database_url, {"email": "alice@example.org"})
    status, output = await jobs(database_url, "dead")
    assert (status, output.split()[:2], output.split()[-1]) == (0, ["1", "mail"], "Refused")
    assert "alice" not in output


async def test_an_operator_retries_one_dead_letter_or_all(database_url: str) -> None:
    await add_dead_letters(database_url, *numbered(3))
    assert await jobs(database_url, "retry", "2") == (0, "1 jobs enqueued again\n")
    status, output = await jobs(database_url, "retry", "2")
    assert (status, output) == (1, "No job 2 was given up; `litestar jobs dead` lists those that were\n")
    assert await jobs(database_url, "retry", "--all") == (0, "2 jobs enqueued again\n")
    status, output = await jobs(database_url, "run")
    assert (status, output.splitlines()[-1]) == (0, "3 jobs run")
    async with open_database(database_url) as database:
        assert await jobs_in(database) == []


@pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["0"]], ids=["neither", "both", "no id"])
@on_sqlite
async def test_an_operator_must_say_what_to_retry(database_url: str, arguments: list[str]) -> None:
    assert (await jobs(database_url, "retry", *arguments))[0] == 2
