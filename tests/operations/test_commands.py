"""The operator's commands, as programs of their own."""

from pathlib import Path

import httpx
import pytest

from tests.factories import PASSWORD, SECRET
from tests.programs import alembic, run, service

ACCOUNT = ["--username", "root", "--email", "root@example.org", "--password", PASSWORD]


def litestar(folder: Path, *arguments: str, url: str) -> tuple[int, str, str]:
    """The exit code of a command, and what it printed on its two outputs."""
    ended = run(folder, "litestar", "--app", "app.main:app", *arguments, SECRET_KEY=SECRET, DATABASE_URL=url)
    return ended.returncode, ended.stdout, ended.stderr


def test_the_route_table_shows_what_is_public(tmp_path: Path) -> None:
    """Every route, one a line; it needs no database."""
    code, out, _ = litestar(tmp_path, "route-table", url=f"sqlite:///{tmp_path / 'file'}")
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert code == 0
    assert ["POST", "/token", "public"] in lines
    assert ["POST", "/users", "public"] in lines
    assert ["GET", "/users/me", "signed in"] in lines
    assert ["GET", "/items/{item_id}", "signed in"] in lines
    assert ["GET", "/users", "superuser"] in lines


def test_a_superuser_is_created_once(empty_database_url: str, tmp_path: Path) -> None:
    """By the rules of registration; what is refused is one line."""
    assert alembic(tmp_path, "upgrade", "head", url=empty_database_url).returncode == 0
    code, out, _ = litestar(tmp_path, "create-superuser", *ACCOUNT, url=empty_database_url)
    assert code == 0
    assert "Superuser root has id 1" in out
    assert PASSWORD not in out
    code, _, err = litestar(tmp_path, "create-superuser", *ACCOUNT, url=empty_database_url)
    assert (code, err.splitlines()[-1]) == (1, "Username or email already registered")


def test_a_superuser_signs_in(tmp_path: Path, free_tcp_port: int) -> None:
    """On the service that runs beside."""
    url = f"http://127.0.0.1:{free_tcp_port}"
    database = f"sqlite:///{tmp_path / 'file'}"
    with service(tmp_path, free_tcp_port, SECRET_KEY=SECRET, DATABASE_URL=database):
        assert litestar(tmp_path, "create-superuser", *ACCOUNT, url=database)[0] == 0
        token = httpx.post(f"{url}/token", data={"username": "root", "password": PASSWORD}).json()["access_token"]
        assert httpx.get(f"{url}/users/me", headers={"Authorization": f"Bearer {token}"}).json()["is_superuser"] is True


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--username", ".root"], "username must be a string of 1 to 64 characters"),
        (["--email", "root-of-nowhere"], "email must be an e-mail address"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    """Before the database is asked."""
    database = f"sqlite:///{tmp_path / 'file'}"
    code, _, err = litestar(tmp_path, "create-superuser", *ACCOUNT, *arguments, url=database)
    assert code == 1
    assert line in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    """And no traceback, which would hold the password."""
    code, _, err = litestar(tmp_path, "create-superuser", *ACCOUNT, url="postgresql://u:canary@127.0.0.1:1/n")
    assert code == 1
    assert err.splitlines()[-1] == "The service is temporarily unavailable; try again"
    assert "Traceback" not in err
    assert PASSWORD not in err
    assert "canary" not in err
