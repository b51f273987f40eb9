"""The commands of an operator, on the framework's own command line: `litestar --help`."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TypeVar

import click
import msgspec
from litestar import Litestar
from litestar.plugins import CLIPlugin
from litestar.routes import HTTPRoute

from app.copying import CopyError, copy_database
from app.db import Database
from app.errors import AppError, InvalidFields, database_error
from app.jobs import Job, Worker, dead_letters, retry
from app.requests import decode
from app.users.models import User
from app.users.schemas import UserCreate
from app.users.service import UserService

Result = TypeVar("Result")


class OperatorCommands(CLIPlugin):
    """What an operator does beside the running service, with the same settings."""

    def __init__(self, database: Database, users: UserService) -> None:
        self.database = database
        self.users = users

    def on_cli_init(self, cli: click.Group) -> None:
        """Add the commands to the framework's."""

        @cli.command(name="route-table")
        def route_table(app: Litestar) -> None:
            """Show every route, and which of them are public."""
            for method, path, access in sorted(routes(app), key=lambda row: (row[1], row[0])):
                click.echo(f"{method:7} {path:50} {access}")

        @cli.command(name="create-superuser")
        @click.option("--username", prompt=True)
        @click.option("--email", prompt=True)
        @click.password_option(envvar="SUPERUSER_PASSWORD")
        def create_superuser(username: str, email: str, password: str) -> None:
            """Open an account with a superuser's rights."""
            fields = {"username": username, "email": email, "password": password}
            user = run(self.database, self.create_superuser(fields))
            click.echo(f"Superuser {user.username} has id {user.id}")

        @cli.command(name="copy-database")
        @click.argument("source")
        def copy(source: str) -> None:
            """Copy an SQLite database, sqlite:///file, into the empty PostgreSQL database of DATABASE_URL."""
            try:
                run(self.database, copy_database(source, self.database.engine.url, report))
            except CopyError as error:
                sys.exit(str(error))

    async def create_superuser(self, fields: dict[str, str]) -> User:
        """Open the account, by the same rules as registration."""
        return await self.users.create(decode(msgspec.json.encode(fields), UserCreate), is_superuser=True)


class JobCommands(CLIPlugin):
    """The background jobs: the worker as a process of its own, and what to do about jobs that were given up."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.database = worker.database

    def on_cli_init(self, cli: click.Group) -> None:
        """Add the group of commands to the framework's."""

        @cli.group(name="jobs")
        def jobs() -> None:
            """Run background jobs, and retry those that were given up."""

        @jobs.command(name="work")
        def work() -> None:
            """Run jobs as they become due, until SIGTERM or SIGINT."""
            # The event loop already ends its work cleanly on SIGINT.
            signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
            with suppress(KeyboardInterrupt):
                run(self.database, self.worker.run())

        @jobs.command(name="run")
        def run_due() -> None:
            """Run the jobs that are due, and end."""
            click.echo(f"{run(self.database, self.worker.run_due())} jobs run")

        @cli.command(name="purge")
        def purge() -> None:
            """Delete what has expired: sessions, and stored answers to repeated requests. A daily job does it too."""
            run(self.database, self.purge())

        @jobs.command(name="dead")
        def dead() -> None:
            """List the jobs that were given up."""
            for job in run(self.database, self.dead_letters()):
                click.echo(f"{job.id:<8} {job.kind:24} {job.failed_at:%Y-%m-%d %H:%M:%SZ} {job.last_error}")

        @jobs.command(name="retry")
        @click.argument("job_id", metavar="ID", type=click.IntRange(min=1), required=False)
        @click.option("--all", "every", is_flag=True, help="Retry every job that was given up.")
        def retry_dead(job_id: int | None, *, every: bool) -> None:
            """Run one of those again, or all of them."""
            if every == (job_id is not None):
                raise click.UsageError("Name the job by its ID, or choose --all")
            count = run(self.database, self.retry(job_id))
            if job_id is not None and not count:
                sys.exit(f"No job {job_id} was given up; `litestar jobs dead` lists those that were")
            click.echo(f"{count} jobs enqueued again")

    async def purge(self) -> None:
        """What the worker does daily, now."""
        for kind in self.worker.daily:
            await self.worker.handlers[kind]({})

    async def dead_letters(self) -> Sequence[Job]:
        """What was given up."""
        async with self.database.transaction() as session:
            return await dead_letters(session)

    async def retry(self, job_id: int | None) -> int:
        """Enqueue one of those again, or all of them."""
        async with self.database.transaction() as session:
            return await retry(session, job_id)


def report(table: str, rows: int) -> None:
    """One line of what was copied."""
    click.echo(f"{table:20} {rows:>12}")


def run(database: Database, work: Coroutine[None, None, Result]) -> Result:
    """Do some work and close the database; what is refused is one line and exit status 1."""

    async def run_and_close() -> Result:
        try:
            return await work
        finally:
            await database.close()

    try:
        return asyncio.run(run_and_close())
    except Exception as error:
        refusal = error if isinstance(error, AppError) else database_error(error)
        if refusal is None:
            raise
        sys.exit("; ".join([refusal.detail, *reasons(refusal)]))


def reasons(error: AppError) -> list[str]:
    """Each refused field and why, in a line's worth of words."""
    refused = error.errors if isinstance(error, InvalidFields) else []
    return [f"{field.pointer.removeprefix('/')} {field.detail}" for field in refused]


def routes(app: Litestar) -> list[tuple[str, str, str]]:
    """Method, path and access of every route; HEAD goes wherever GET goes."""
    return [
        (method, route.path_format, "public" if handler.opt.get("exclude_from_auth") else "guarded")
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    ]
