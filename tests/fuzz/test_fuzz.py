"""The service keeps to its OpenAPI document, whatever a client sends.

Schemathesis reads the document and makes requests of it, valid and invalid ones: from the examples, at the bounds of
each parameter and field, at random, and in sequences where one request is about what another one made. All its checks
are on: no 5xx, no status, media type, header or body that isn't declared, no valid data refused, no invalid data
accepted, no unknown method allowed, nothing done without a token, nothing there after it was deleted.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import SECRET, on_sqlite
from tests.programs import environment, service

HOOKS = Path(__file__).parent / "hooks.py"
MINUTES = float(os.environ.get("FUZZ_MINUTES", "5"))
# Users who aren't superusers are refused these.
FOR_SUPERUSERS = {"GET /users", "PATCH /users/{user_id}", "DELETE /users/{user_id}", "GET /events"}


# Nothing that a program makes up is accepted there: they need the code of an app, the signature of a key, the secret of
# an application or a person's consent, and lists whose entries fit each other. Their own tests have those.
NEEDS_PROOF = "^/(clients|device_authorization|introspect|passkeys|users/me/(totp|recovery|passkeys|reauth|grants))"


def fuzz(folder: Path, port: int, database_url: str, caller: str, *options: str) -> None:
    """Run Schemathesis against the program, and check that each operation has accepted at least one request."""
    settings = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "TRUSTED_PROXIES": "127.0.0.1",
        "LOG_LEVEL": "ERROR",
    }
    with service(folder, port, **{name: value for name, value in settings.items() if name != "PORT"}):
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json"]
        plain = ["--no-color", "--generation-database=none", "--continue-on-failure", "--checks=all", "--mode=all"]
        plain += ["--exclude-path-regex", NEEDS_PROOF]
        variables = environment(**settings, SCHEMATHESIS_HOOKS=str(HOOKS), FUZZ_AS=caller)
        done = subprocess.run(
            [*command, *plain, *options], cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads((folder / "answers.json").read_text())
    refused = {label for label, statuses in answers.items() if not any(status < "300" for status in statuses)}
    assert refused <= (set() if caller == "superuser" else FOR_SUPERUSERS)
    print(caller, done.stdout.partition("= SUMMARY =")[2], answers, sep="\n")  # noqa: T201 - for the long run's reader


@pytest.mark.slow
@on_sqlite
def test_a_short_run_finds_nothing(tmp_path: Path, free_tcp_port: int, database_url: str) -> None:
    """It sends the same requests each time, as a superuser, who may call every operation."""
    fuzz(tmp_path, free_tcp_port, database_url, "superuser", "--seed=1", "--max-examples=5")


@pytest.mark.fuzz
@pytest.mark.parametrize("caller", ["user", "superuser"])
def test_a_long_run_finds_nothing(tmp_path: Path, free_tcp_port: int, database_url: str, caller: str) -> None:
    """It sends other requests each time; the output names the seed, and gives a failing request as a command."""
    fuzz(tmp_path, free_tcp_port, database_url, caller, f"--max-time={round(MINUTES * 60)}")
