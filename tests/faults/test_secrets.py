"""The program prints no secret on standard output or standard error, whatever breaks."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from tests.factories import SECRET
from tests.programs import service

pytestmark = pytest.mark.faults

PASSWORD = "canary-Pa55word-Qz7xT2"
MAIL = "heron.mailbox@example.org"
TOKEN = "canary-tok3n-Xw9"
FORGED_LINES = 'a\nb\r\n{"event": "forged"}\u2028{"event": "forged"}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("environment", ["production", "development"])
async def test_no_secret_is_printed_whatever_breaks(
    server: asyncpg.Connection, empty_postgresql_url: str, tmp_path: Path, free_tcp_port: int, environment: str
) -> None:
    """At DEBUG, input is bad, a row is refused, a column is gone, and so are the mail server and the database."""
    variables = {
        "ENVIRONMENT": environment,
        "SECRET_KEY": SECRET,
        "LOG_LEVEL": "DEBUG",
        "DATABASE_URL": empty_postgresql_url,
        "SMTP_URL": f"smtp://heron.mailbox:{PASSWORD}@127.0.0.1:1",
    }
    out = tmp_path / "out"
    url = f"http://127.0.0.1:{free_tcp_port}"
    with service(tmp_path, free_tcp_port, **variables):
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            assert await statuses(use_everything(client)) <= {200, 201, 202, 204, 400, 401, 403, 409, 415, 422}
            issued = (await client.post("/token", data={"username": "ingrid", "password": PASSWORD})).json()
            await wait_for_failed_mail(out)
            database = await asyncpg.connect(empty_postgresql_url)
            await database.execute("ALTER TABLE users ADD CONSTRAINT impossible CHECK (username = '') NOT VALID")
            assert 500 in await statuses(use_everything(client))
            await database.execute("ALTER TABLE users RENAME COLUMN email TO gone")
            assert 500 in await statuses(use_everything(client))
            await database.close()
            name = make_url(empty_postgresql_url).database
            await server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
            await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            assert 503 in await statuses(use_everything(client))
    text = out.read_text()
    assert "Traceback" in text
    tokens = (issued["access_token"], issued["refresh_token"])
    for secret in (PASSWORD, MAIL, MAIL.partition("@")[0], TOKEN, SECRET, *tokens, "$argon2id$"):
        assert secret.casefold() not in text.casefold()
    if environment == "production":
        events = [json.loads(line)["event"] for line in text.split("\n") if line.startswith("{")]
        assert "forged" not in events


async def use_everything(client: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
    """Send passwords, tokens and addresses in every field that takes some, and line breaks where there may be none."""
    account = {"username": "ingrid", "email": MAIL, "password": PASSWORD}
    yield await client.post("/users/", json=account)
    yield await client.post("/users/", json=account | {"username": FORGED_LINES, PASSWORD: TOKEN})
    yield await client.post("/users/", json=account | {"username": "another", "email": f"x.{MAIL}"})
    yield await client.post("/users/", json=account | {"email": [MAIL], "password": {"a": PASSWORD}})
    yield await client.post("/users/", content=json.dumps(account)[:-2], headers=JSON)
    yield await client.post("/users/", content=json.dumps(account))
    device = {"User-Agent": f"{PASSWORD}\t{TOKEN}"}
    login = await client.post("/token", data={"username": "ingrid", "password": PASSWORD}, headers=device)
    yield login
    yield await client.post("/token", data={"username": MAIL, "password": PASSWORD})
    yield await client.post("/token", data={"username": FORGED_LINES, "password": TOKEN})
    yield await client.post("/token", data={"grant_type": "refresh_token", "refresh_token": TOKEN})
    yield await client.post("/revoke", data={"token": TOKEN}, headers={"Authorization": f"Basic {TOKEN}"})
    yield await client.post("/password-reset", json={"email": MAIL})
    yield await client.post("/password-reset/confirm", json={"token": TOKEN, "new_password": PASSWORD})
    yield await client.post("/email-verification/confirm", json={"token": TOKEN})
    yield await client.get(f"/items/?q={PASSWORD}&{TOKEN}={TOKEN}", headers={"Authorization": f"Bearer {TOKEN}"})
    token = login.json().get("access_token", TOKEN) if login.is_success else TOKEN
    signed_in = {"Authorization": f"Bearer {token}", "X-Request-ID": f"{TOKEN} {PASSWORD}"}
    yield await client.get("/users/me", headers=signed_in)
    yield await client.get(f"/items/?q={PASSWORD}", headers=signed_in)
    yield await client.patch("/users/me", json={"email": f"y.{MAIL}", "current_password": PASSWORD}, headers=signed_in)
    yield await client.put(
        "/users/me/password", json={"current_password": TOKEN, "new_password": PASSWORD}, headers=signed_in
    )
    yield await client.post("/items/", json={"title": FORGED_LINES, "description": PASSWORD}, headers=signed_in)


async def statuses(answers: AsyncIterator[httpx.Response]) -> set[int]:
    """Return the statuses of answers."""
    return {answer.status_code async for answer in answers}


async def wait_for_failed_mail(out: Path) -> None:
    """Wait until the log says that a mail could not be sent."""
    deadline = monotonic() + 30
    while "job_failed" not in await asyncio.to_thread(out.read_text):
        assert monotonic() < deadline
        await asyncio.sleep(0.1)
