"""An authenticator app, as people use one: it takes a secret over, and shows a code for each half minute."""

import time

import pyotp
import pytest
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import update

from app.factors import service
from app.factors.models import Totp
from tests.auth.oauth import execute
from tests.factories import PASSWORD


def clock() -> float:
    """Return the time of the service's clock."""
    moment: float = vars(service)["time"]()
    return moment


def code_of(secret: str, *, offset: int = 0) -> str:
    """Return the code of this half minute, or of one so many steps away."""
    return pyotp.TOTP(secret).at(int(clock()), counter_offset=offset)


def stop_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service's half minute never end, for a test that needs several codes of one."""
    moment = time.time()
    monkeypatch.setattr(service, "time", lambda: moment)


def wrong_code_of(secret: str) -> str:
    """Return six digits that are the code of no step nearby."""
    near = {code_of(secret, offset=offset) for offset in range(-3, 4)}
    return next(code for code in ("000000", "111111", "222222", *map(str, range(333333, 333340))) if code not in near)


async def enrol(app: Litestar, client: AsyncClient) -> tuple[str, list[str]]:
    """Add an authenticator app to the account of a client; return the secret, and the recovery codes.

    The code that confirmed it counts as one of long ago.
    """
    secret = (await client.post("/users/me/totp")).json()["secret"]
    answer = await client.post("/users/me/totp/confirm", json={"code": code_of(secret)})
    assert answer.status_code == 200, answer.text
    await forget_steps(app)
    codes: list[str] = answer.json()["recovery_codes"]
    return secret, codes


async def forget_steps(app: Litestar) -> None:
    """Move the last codes of all apps into the past."""
    await execute(app, update(Totp).values(last_step=0))


async def log_in_with(client: AsyncClient, otp: str, username: str = "alice", password: str = PASSWORD) -> Response:
    """Log in with a code, and return the answer."""
    return await client.post("/token", data={"username": username, "password": password, "otp": otp})
