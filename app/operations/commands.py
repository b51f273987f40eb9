"""The operator's commands, which Litestar's command line shows: `litestar --help`."""

import asyncio
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

import click
from litestar import Litestar
from litestar.plugins import CLIPlugin
from litestar.routes import HTTPRoute

from app.database.commands import run
from app.database.sessions import Database
from app.http.access import access_of, scope_of
from app.http.feature import Chore
from app.jobs.queue import JobQueue
from app.jobs.worker import Worker
from app.operations.copying import CopyError, copy_database


class Commands(CLIPlugin):
    """The plugin that adds commands to Litestar's command line."""

    def __init__(self, commands: Iterable[click.Command]) -> None:
        self.commands = commands

    def on_cli_init(self, cli: click.Group) -> None:
        """Add the commands."""
        for command in self.commands:
            cli.add_command(command)


@click.command
def route_table(app: Litestar) -> None:
    """Show every route, who may call it, and with which scope."""
    for method, path, access, scope in sorted(routes(app), key=lambda row: (row[1], row[0])):
        click.echo(f"{method:7} {path:50} {access:20} {scope}".rstrip())


def copy_command(database: Database) -> click.Command:
    """Return the command that copies an SQLite database into PostgreSQL."""

    @click.command(name="copy-database")
    @click.argument("source")
    def command(source: str) -> None:
        """Copy an SQLite database, sqlite:///file, into the empty PostgreSQL database of DATABASE_URL."""
        try:
            run(database, copy_database(source, database.engine.url, show_count))
        except CopyError as error:
            sys.exit(str(error))

    return command


def show_count(table: str, rows: int) -> None:
    """Print the name of a copied table, and the number of its rows."""
    click.echo(f"{table:20} {rows:>12}")


def purge_command(database: Database, chores: Sequence[Chore]) -> click.Command:
    """Return the command that runs the daily chores now."""

    @click.command(name="purge")
    def command() -> None:
        """Delete what has expired: sessions, tokens, codes, stored answers, old events. A daily job does it, too."""
        run(database, run_chores(chores))

    return command


async def run_chores(chores: Iterable[Chore]) -> None:
    """Run the chores one after the other."""
    for chore in chores:
        await chore()


def job_commands(queue: JobQueue, worker: Worker) -> click.Group:
    """Return the commands for jobs: to run a worker, and to list and retry dead letters."""
    database = queue.database

    @click.group
    def jobs() -> None:
        """Run background jobs, and retry those that were given up."""

    @jobs.command(name="work")
    def work() -> None:
        """Run jobs as they become due, until SIGTERM or SIGINT."""
        with suppress(KeyboardInterrupt):
            run(database, run_until_told(worker))

    @jobs.command(name="run")
    def run_due() -> None:
        """Run the jobs that are due, and end."""
        click.echo(f"{run(database, worker.run_due())} jobs run")

    jobs.add_command(dead_command(queue))
    jobs.add_command(retry_command(queue))
    return jobs


async def run_until_told(worker: Worker) -> None:
    """Run a worker until SIGTERM, SIGINT or SIGHUP, which is ignored under nohup."""
    running, loop = asyncio.create_task(worker.run()), asyncio.get_running_loop()

    def stop(*_: object) -> None:
        # A second signal doesn't cut short what is ending, and a late one may find the loop closed.
        if not running.cancelling() and not loop.is_closed():
            loop.call_soon_threadsafe(running.cancel)

    # SIGTERM can't be passed on as SIGINT: what a script starts in the background ignores that.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    with suppress(asyncio.CancelledError):
        await running


def dead_command(queue: JobQueue) -> click.Command:
    """Return the command that lists dead letters."""

    @click.command(name="dead")
    def command() -> None:
        """List the jobs that were given up."""
        for job in run(queue.database, queue.dead_letters()):
            click.echo(f"{job.id:<8} {job.kind:24} {job.failed_at:%Y-%m-%d %H:%M:%SZ} {job.last_error}")

    return command


def retry_command(queue: JobQueue) -> click.Command:
    """Return the command that enqueues one dead letter again, or all of them."""

    @click.command(name="retry")
    @click.argument("job_id", metavar="ID", type=click.IntRange(min=1), required=False)
    @click.option("--all", "retry_all", is_flag=True, help="Retry every job that was given up.")
    def command(job_id: int | None, *, retry_all: bool) -> None:
        """Run a job that was given up again, by its ID, or all of them with --all."""
        if retry_all == (job_id is not None):
            raise click.UsageError("Name the job by its ID, or choose --all")
        count = run(queue.database, queue.retry(job_id))
        if job_id is not None and not count:
            sys.exit(f"No job {job_id} was given up; `litestar jobs dead` lists those that were")
        click.echo(f"{count} jobs enqueued again")

    return command


def routes(app: Litestar) -> list[tuple[str, str, str, str]]:
    """Return the method, path, access and scope of every route; HEAD isn't listed, since it goes wherever GET goes."""
    return [
        (method, route.path_format, access_of(handler), scope_of(handler) or "")
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    ]
