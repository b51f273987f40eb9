"""The operator's command for accounts: `litestar create-superuser`."""

import sys

import click
import msgspec
from click.core import ParameterSource

from app.database.commands import run
from app.http.requests import decode
from app.users.schemas import UserCreate
from app.users.service import UserService


def password_of(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    """Return the password: of the environment, of a prompt, or the first line of what is piped in.

    An argument is refused, since everybody on the machine sees the arguments of a program. Raise UsageError.
    """
    if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
        raise click.UsageError("Not as an argument, which others see: set SUPERUSER_PASSWORD, or pipe the password in")
    if value:
        return value
    if is_at_terminal():
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return typed
    return sys.stdin.readline().rstrip("\r\n") if sys.stdin else ""


def is_at_terminal() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def create_superuser(users: UserService) -> click.Command:
    """Return the command that opens an account with a superuser's rights, by the same rules as registration."""

    @click.command(name="create-superuser")
    @click.option("--username", prompt=True)
    @click.option("--email", prompt=True)
    @click.option("--password", envvar="SUPERUSER_PASSWORD", callback=password_of, hidden=True)
    def command(username: str, email: str, password: str) -> None:
        """Open an account with a superuser's rights; the password is typed, piped in, or in SUPERUSER_PASSWORD."""
        fields = {"username": username, "email": email, "password": password}

        async def create() -> str:
            user = await users.create(decode(msgspec.json.encode(fields), UserCreate), is_superuser=True)
            return f"Superuser {user.username} has id {user.id}"

        click.echo(run(users.database, create()))

    return command
