"""Runs an operator's commands in the process of the tests, which is faster than a program of its own for each."""

from collections.abc import Iterable, Mapping

import click
from click.testing import CliRunner

from app.main import create_app
from app.settings import Settings
from tests.factories import SECRET


def litestar(url: str, *arguments: str, typed: str = "", **environment: str) -> tuple[int, str]:
    """Run a command of an application on a database; return its exit status and what it printed.

    `typed` is piped into it.
    """
    settings = Settings(secret_key=SECRET, database_url=url, jobs_in_process=False)
    return invoke(commands_of(settings), arguments, typed, environment)


def commands_of(settings: Settings) -> click.Group:
    """Return the commands of an application."""
    group = click.Group()
    for plugin in create_app(settings).plugins.cli:
        plugin.on_cli_init(group)
    return group


def invoke(
    group: click.Group, arguments: Iterable[str], typed: str = "", environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command of a group, which may run an event loop; return its exit status and what it printed."""
    result = CliRunner().invoke(group, list(arguments), input=typed, env=environment)
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result.exit_code, result.output
