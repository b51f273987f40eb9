"""The examination of an installation: what answers, what doesn't, and no secret."""

from pathlib import Path

import msgspec
import pytest

from app.operations.doctor import ANSWER_WITHIN_SECONDS, Finding, ask, ask_everything, production_lines, setting_lines
from app.settings import Settings
from tests.factories import SECRET
from tests.operations.test_copying import change
from tests.programs import free_port, run
from tests.smtp import Mailbox, smtp


async def findings(url: str, **others: object) -> dict[str, Finding]:
    """Return the findings of an installation on a database, by the part."""
    settings = msgspec.convert({"SECRET_KEY": SECRET, "DATABASE_URL": url} | others, Settings)
    return {finding.part: finding for finding in await ask_everything(settings)}


async def test_a_migrated_database_is_well(database_url: str) -> None:
    found = (await findings(database_url))["database"]
    assert found.well
    assert found.line.startswith("SQLite 3." if database_url.startswith("sqlite") else "PostgreSQL 1")
    assert found.line.endswith(", the newest")


async def test_a_database_that_was_never_migrated_is_not(empty_postgresql_url: str, tmp_path: Path) -> None:
    """A file that isn't there isn't made."""
    found = (await findings(empty_postgresql_url))["database"]
    assert (found.well, found.line) == (False, "isn't migrated; `just migrate` does it")
    found = (await findings(f"sqlite:///{tmp_path / 'file'}"))["database"]
    assert (found.well, found.line) == (False, f"{tmp_path / 'file'} isn't there yet; `just migrate` makes it")
    assert not (tmp_path / "file").exists()


async def test_a_database_of_newer_code_is_named_so(sqlite_url: str) -> None:
    change(sqlite_url, "UPDATE alembic_version SET version_num = 'newer'")
    found = (await findings(sqlite_url))["database"]
    assert (found.well, found.line.partition(",")[0]) == (False, "is at revision newer")


@pytest.mark.direct("which asks the server itself")
async def test_a_server_that_replays_nothing_is_no_standby(postgresql_url: str) -> None:
    found = await findings(postgresql_url, DATABASE_REPLICA_URLS=[postgresql_url, "postgresql://u:p@127.0.0.1:1/n"])
    assert not found["standby 1"].well
    assert found["standby 1"].line.endswith("answers, but is no standby")
    assert not found["standby 2"].well
    assert found["database"].well


async def test_the_mail_server_is_asked_and_gets_no_mail(sqlite_url: str, tmp_path: Path) -> None:
    mailbox = Mailbox()
    async with smtp(mailbox) as port:
        found = (await findings(sqlite_url, SMTP_URL=f"smtp://127.0.0.1:{port}"))["mail"]
    assert (found.well, found.line) == (True, f"127.0.0.1:{port} takes mails")
    assert mailbox.envelopes.empty()
    assert not (await findings(sqlite_url, SMTP_URL=f"smtp://127.0.0.1:{port}"))["mail"].well
    assert (await findings(sqlite_url, MAIL_DIR=str(tmp_path / "outbox")))["mail"].well
    (tmp_path / "file").touch()
    assert not (await findings(sqlite_url, MAIL_DIR=str(tmp_path / "file" / "outbox")))["mail"].well


async def test_a_storage_of_limits_that_is_away_is_told(sqlite_url: str) -> None:
    assert (await findings(sqlite_url))["limits"].well
    found = (await findings(sqlite_url, RATE_LIMIT_STORAGE=f"redis://:canary@127.0.0.1:{free_port()}/0"))["limits"]
    assert not found.well
    assert "canary" not in found.line


async def test_a_part_that_hangs_is_left_after_some_seconds() -> None:
    async def hang() -> str:
        raise TimeoutError

    assert await ask("mail", hang()) == Finding("mail", f"doesn't answer within {ANSWER_WITHIN_SECONDS} s", well=False)


# What is shown --------------------------------------------------------------------------------------------------------

CANARIES = {
    "SECRET_KEY": "canary-7e151628aed2a6abf7158809cf4f3c",
    "SECRET_KEY_PREVIOUS": "canary-7e151628aed2a6abf7158809cf4f3d",
    "DATABASE_URL": "postgresql://user:canary/?#1@host/name?password=canary&sslpassword=canary&application_name=a",
    "DATABASE_REPLICA_URLS": ["postgresql://user:canary@standby/name?passfile=canary"],
    "BREACHED_PASSWORDS_URL": "https://canary:canary@host/range",
    "SMTP_URL": "smtp://canary:canary%40@host:587",
    "RATE_LIMIT_STORAGE": "redis://canary:canary@host:6379/0?password=canary",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://canary:canary@host:4318",
}


def test_no_secret_is_shown() -> None:
    settings = msgspec.convert(CANARIES, Settings)
    lines = list(setting_lines(settings, {"SMTP_URL": ".env"}))
    assert [line.split()[0] for line in lines if line.split()[0] in CANARIES] == sorted(
        CANARIES, key=[field.encode_name for field in msgspec.structs.fields(Settings)].index
    )
    assert "canary" not in "\n".join(lines)
    assert "host" in "\n".join(lines)
    assert any(line.split() == ["SMTP_URL", "smtp://host:587", "(.env)"] for line in lines)


def test_a_text_that_may_hold_a_secret_is_one_of_those() -> None:
    """A new setting that is a URL, or a key, belongs among the canaries."""
    fields = [field for field in msgspec.structs.fields(Settings) if field.type in {str, tuple[str, ...]}]
    secrets = {
        field.encode_name
        for field in fields
        if any(word in field.encode_name for word in ("URL", "KEY", "STORAGE", "ENDPOINT", "SECRET", "TOKEN"))
    }
    assert secrets - {"PUBLIC_URL", "ACCOUNT_URL", "PASSKEY_DOMAIN"} == set(CANARIES)


def test_what_production_refuses_is_listed_whole() -> None:
    settings = msgspec.convert(
        {"SECRET_KEY": "example" * 8, "CORS_ORIGINS": ["*"], "HOST": "::", "MAIL_DIR": "mails"}, Settings
    )
    lines = list(production_lines(settings))
    assert [line.split()[1] for line in lines if line.startswith("refuses: ")] == [
        "SECRET_KEY",
        "CORS_ORIGINS",
        "PUBLIC_URL",
    ]
    assert "doubts: SMTP_URL is not set: mails aren't sent, but kept as files in mails" in lines
    fine = {
        "SECRET_KEY": "0c7a4be1d86b4f2d8f52b1f9a1c0e7aa",
        "PUBLIC_URL": "https://a.org",
        "SMTP_URL": "smtp://localhost",
    }
    assert list(production_lines(msgspec.convert(fine | {"MAIL_FROM": "a@a.org"}, Settings))) == [
        "has nothing against these settings"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "status", "words"),
    [
        ({"SECRET_KEY": SECRET, "DATABASE_URL": "postgresql://u:canary@127.0.0.1:1/n"}, 1, "WRONG database"),
        ({"SECRET_KEY": SECRET, "DATABASE_URL": "{url}"}, 0, "ok    database"),
        ({}, 1, "Configuration error: SECRET_KEY is not set"),
    ],
    ids=["away", "well", "no settings"],
)
def test_the_program_ends_well_only_when_everything_answers(
    sqlite_url: str, tmp_path: Path, variables: dict[str, str], status: int, words: str
) -> None:
    ended = run(tmp_path, "app", "doctor", **{name: value.format(url=sqlite_url) for name, value in variables.items()})
    assert (ended.returncode, words in ended.stdout + ended.stderr) == (status, True)
    assert "Traceback" not in ended.stderr
    assert "canary" not in ended.stdout + ended.stderr
    assert not (tmp_path / ".env").exists()
