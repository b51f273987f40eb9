"""Every command line of README and docs runs as it is written, in a checkout as the README leaves it."""

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from typing import IO

import asyncpg
import pytest

from app.settings import Settings
from tests.factories import PASSWORD, SECRET
from tests.postgresql import programs
from tests.programs import LONGEST_SECONDS, ROOT, end, environment, wait_until_ready

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = Path(sys.prefix) / "bin"
COPIED = ["app", "migrations", "alembic.ini", "justfile", "requirements.lock", "requirements-dev.lock"]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(
    r"`((?:[A-Z_]+=\S+ )*(?:just|litestar|alembic|docker|python|pip|psql|pg_dump|\.venv/bin/\w+) [^`]+)`"
)

# Each prints these words, and has something to do in this order.
OPERATORS_COMMANDS = {
    "alembic upgrade head": "",
    "litestar create-superuser": "Superuser root has id 2",
    "litestar create-client --help": "Register an application",
    "litestar create-client Counter --redirect-uri http://127.0.0.1:9/callback "
    '--scope "openid profile offline_access items:read"': "client_secret: ",
    'litestar create-client "Umbrella Counter" --redirect-uri https://app.example.com/callback '
    '--scope "openid profile offline_access items:read"': "client_secret: ",
    "litestar jobs work": "mail_written",
    "litestar jobs dead": "verification_mail",
    "litestar jobs retry 1": "1 jobs enqueued again",
    "litestar jobs run": "1 jobs run",
    "litestar jobs retry --all": "0 jobs enqueued again",
    "litestar purge": "",
    "litestar rotate-signing-keys": "There are no signing keys yet",
    "litestar routes": "/items/{item_id:int}",
    "litestar route-table": "/items/{item_id}",
    "litestar schema openapi": "",
    "litestar run": "Uvicorn running on",
}
ENDLESS = {"litestar jobs work", "litestar run"}
ALONE = "litestar --help"
# Blocks that are run whole, by how they begin.
SCRIPTS = [
    ". .venv/bin/activate",
    "DATABASE_URL=postgresql://user:password@localhost/backend just run",
    "curl -s http://127.0.0.1:8000/users/",
    "umask 077",
    "export DATABASE_URL=postgresql://user:password@host/name\njust migrate\nlitestar copy-database",
    "pg_dump",
    'psql "$ADMIN_URL"',
    'python3 -c "import sqlite3',
]
ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/pip install": "needs an index of packages; CI begins with it",
    ".venv/bin/python -m pip install": "needs an index of packages",
    "docker ": "needs Docker and its images",
    "python -m app": "is what `just run` runs",
    "curl -s http://127.0.0.1:8000/token -d username=alice -d 'password": "needs a code; tests/factors make theirs",
    "litestar reset-factors": "needs somebody with a factor; tests/operations/test_commands.py runs it",
}


def blocks() -> list[str]:
    """Return the blocks of commands of all pages."""
    return [block for page in PAGES for block in BLOCK.findall(page.read_text())]


def commands() -> set[str]:
    """Return the commands of all pages: those within a sentence, and each line of blocks that aren't run whole."""
    within = {command for page in PAGES for command in INLINE.findall(page.read_text())}
    return within | {line for block in blocks() if not block.startswith(tuple(SCRIPTS)) for line in block.splitlines()}


def recipes() -> list[str]:
    """Return the commands that run a recipe of the justfile, with their variables."""
    return sorted(command for command in commands() if re.match(r"([A-Z_]+=\S+ )*just ", command))


def script(start: str) -> str:
    """Return the block that begins like this."""
    (block,) = [block for block in blocks() if block.startswith(start)]
    return block


def test_every_command_is_run_below_or_has_its_reason() -> None:
    copied = {line for block in blocks() if block.startswith("export") for line in block.splitlines()}
    run = {*recipes(), *OPERATORS_COMMANDS, ALONE, *copied}
    assert {command for command in commands() - run if not command.startswith(tuple(ELSEWHERE))} == set()
    assert set(OPERATORS_COMMANDS) <= commands()
    assert [start for start in ELSEWHERE if not any(command.startswith(start) for command in commands())] == []


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout after its first run: the code, `.venv` and `.env`."""
    installed = PROGRAMS.parent / "installed-locks"
    locks = [sha256((ROOT / name).read_bytes()).hexdigest() for name in COPIED if name.endswith(".lock")]
    if not installed.exists() or not all(lock in installed.read_text() for lock in locks):
        pytest.skip("`just` has not set up this environment, and would do so now")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / ".env").write_text(f"SECRET_KEY={SECRET}\n")
    for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def variables(**others: str) -> dict[str, str]:
    """Return a terminal's environment, with `.venv/bin` on its path, as the README says, and PostgreSQL's programs."""
    path = os.pathsep.join([str(PROGRAMS), str(programs(PROGRAMS, copy=False)), os.environ["PATH"]])
    return environment(PYTHONPATH="", PATH=path, **others)


def run(folder: Path, *command: str, **others: str) -> str:
    """Run a command until it ends well, and return what it printed."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env=variables(**others),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def run_script(folder: Path, text: str, **others: str) -> str:
    """Run lines of the shell, each of which must end well, and return what they printed."""
    return run(folder, "/bin/sh", "-euc", f". .venv/bin/activate\n{text}", **others)


# Operators' commands --------------------------------------------------------------------------------------------------

FORKS = """
import gc, os, runpy, shlex, shutil, signal, sys
import alembic.config, litestar.cli.main, uvicorn
from app.main import Settings, create_app

create_app(Settings.load())
gc.freeze()  # Else each process would tidy up after all of this when it ends, which takes longer than its command.
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script's shell has it for what it starts by "&"
        for number, name in enumerate(("in", "out", "out")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
        sys.argv = shlex.split(line)
        runpy.run_path(shutil.which(sys.argv[0]), run_name="__main__")
        sys.exit()
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Runs each command that it reads in a process of its own, which has the modules already; loading takes longest."""


class Terminal:
    """Runs operators' commands in a checkout, one after the other."""

    def __init__(self, folder: Path, commands: IO[str], answers: IO[str]) -> None:
        self.folder = folder
        self.commands = commands
        self.answers = answers

    def run(self, command: str, words: str) -> None:
        """Run a command until it ends well and has printed these words; stop one that doesn't end by itself."""
        out = self.folder / "out"
        out.write_text("")
        print(command, file=self.commands, flush=True)
        pid = int(self.answers.readline())
        deadline = monotonic() + LONGEST_SECONDS
        while command in ENDLESS and words not in out.read_text() and monotonic() < deadline:
            sleep(0.05)
        if command in ENDLESS:
            os.kill(pid, signal.SIGTERM)
        late = Timer(LONGEST_SECONDS, os.kill, (pid, signal.SIGKILL))
        late.start()
        code = int(self.answers.readline())
        late.cancel()
        assert code in ({0, -signal.SIGTERM} if command in ENDLESS else {0}), f"{command}\n{out.read_text()}"
        assert words in out.read_text()


@contextmanager
def terminal(folder: Path, **others: str) -> Iterator[Terminal]:
    """Open a terminal in which a person types a name and an address where a command asks for them."""
    (folder / "in").write_text("root\nroot@example.org\n")
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=folder,
        env=variables(**others),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        yield Terminal(folder, process.stdin, process.stdout)
        process.stdin.close()


DEAD_LETTER = """
INSERT INTO users (id, username, username_key, email, email_key, hashed_password, is_active, is_superuser,
                   email_verified, created_at, updated_at)
VALUES (1, 'alice', 'alice', 'alice@example.org', 'alice@example.org', '', 1, 0, 0, '2026-01-01', '2026-01-01');
INSERT INTO jobs (id, kind, payload, run_at, attempt, failed_at, last_error, created_at)
VALUES (1, 'verification_mail', '{"user_id": 1}', '2026-01-01', 12, '2026-01-01', 'SMTPException', '2026-01-01');
"""


def add_dead_letter(file: Path) -> None:
    """Give a database an account, and its verification mail that could not be sent."""
    with closing(sqlite3.connect(file)) as database:
        database.executescript(DEAD_LETTER)


def test_an_operators_commands_do_what_the_pages_say(checkout: Path, free_tcp_port: int) -> None:
    """The folder holds the code and `.env`, and nothing else."""
    others = {"SUPERUSER_PASSWORD": PASSWORD, "LITESTAR_PORT": str(free_tcp_port)}
    with terminal(checkout, **others) as shell:
        for command, words in OPERATORS_COMMANDS.items():
            shell.run(command, words)
            if command.startswith("alembic"):
                add_dead_letter(checkout / "backend.sqlite3")
    assert (checkout / "openapi_schema.json").exists()


def test_litestar_finds_the_application_whatever_else_the_folder_holds(checkout: Path) -> None:
    """A class of SQLAlchemy has type hints that nobody can resolve, and `app.py` is where `litestar` looks second."""
    (checkout / "app" / "app.py").write_text("from sqlalchemy.exc import DBAPIError\n")
    assert "create-superuser" in run(checkout, *shlex.split(ALONE))


# Recipes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", recipes())
def test_a_recipe_takes_what_the_pages_give_it(command: str) -> None:
    """Other tests and CI run the recipes themselves."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    run(ROOT, words[0], "--dry-run", *words[1:])


# Scripts --------------------------------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path, command: str, port: int) -> Iterator[None]:
    """Serve beside the block, by a command of the shell."""
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            ["/bin/sh", "-euc", f". .venv/bin/activate\n{command}"],
            cwd=folder,
            env=variables(PORT=str(port)),
            stdout=out,
            stderr=out,
            text=True,
            start_new_session=True,
        )
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready")
            yield
        finally:
            end(process)


async def test_the_first_request_is_answered_by_a_service_on_postgresql(
    checkout: Path, empty_postgresql_url: str, free_tcp_port: int
) -> None:
    """`just run` migrates first."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    start = script("DATABASE_URL=").replace("postgresql://user:password@localhost/backend", f"'{empty_postgresql_url}'")
    request = script("curl -s http://127.0.0.1:8000/users/").replace("127.0.0.1:8000", f"127.0.0.1:{free_tcp_port}")
    with served(checkout, start, free_tcp_port):
        answers = run_script(checkout, request)
    assert answers.count('"username":"alice"') == 2
    assert '"title":"Umbrella"' in answers


@pytest.mark.direct("that dump and drop a database")
async def test_a_database_moves_to_postgresql_and_comes_back_from_its_backup(
    checkout: Path, sqlite_file: Path, empty_postgresql_url: str
) -> None:
    url, name = empty_postgresql_url, empty_postgresql_url.rpartition("/")[2].partition("?")[0]
    shutil.copy(sqlite_file, checkout / "backend.sqlite3")
    add_dead_letter(checkout / "backend.sqlite3")
    moved = run_script(checkout, script("export").replace("postgresql://user:password@host/name", f"'{url}'"))
    assert re.search(r"^users +1$", moved, re.MULTILINE)
    run_script(checkout, script("pg_dump"), DATABASE_URL=url)
    restore = script("psql").replace("DATABASE backend", f"DATABASE {name}").replace("OWNER backend", "OWNER postgres")
    run_script(checkout, restore, DATABASE_URL=url, ADMIN_URL=os.environ["TEST_DATABASE_URL"])
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT username FROM users") == "alice"
    await connection.close()


def test_sqlite_is_backed_up(checkout: Path, sqlite_file: Path) -> None:
    shutil.copy(sqlite_file, checkout / "backend.sqlite3")
    add_dead_letter(checkout / "backend.sqlite3")
    run_script(checkout, script("python3 -c"))
    with closing(sqlite3.connect(checkout / "backup.sqlite3")) as copy:
        assert copy.execute("SELECT username FROM users").fetchall() == [("alice",)]


def test_the_secrets_of_compose_are_good_ones(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service itself takes them in production."""
    (checkout / ".env").unlink()
    run_script(checkout, script("umask"))
    monkeypatch.chdir(checkout)
    assert Settings.load({"ENVIRONMENT": "production"}).production
    assert "POSTGRES_PASSWORD=" in (checkout / ".env").read_text()
    assert (checkout / ".env").stat().st_mode & 0o077 == 0
