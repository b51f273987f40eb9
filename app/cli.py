"""The commands of an operator, on the framework's own command line: `litestar --help`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
import msgspec
from litestar import Litestar
from litestar.plugins import CLIPlugin
from litestar.routes import HTTPRoute

from app.db import Database
from app.errors import AppError, InvalidFields, database_error
from app.requests import decode
from app.security import Passwords
from app.settings import Settings
from app.users.schemas import UserCreate
from app.users.service import UserService

Result = TypeVar("Result")


class OperatorCommands(CLIPlugin):
    """What an operator does beside the running service, with the same settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

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
            user_id = self.run(lambda database: register_superuser(database, fields))
            click.echo(f"Superuser {username} has id {user_id}")

    def run(self, work: Callable[[Database], Awaitable[Result]]) -> Result:
        """Do some work with a database of its own; what is refused is one line and exit status 1."""

        async def with_database() -> Result:
            database = Database(self.settings.database_url)
            try:
                return await work(database)
            finally:
                await database.close()

        try:
            return asyncio.run(with_database())
        except Exception as error:
            refusal = error if isinstance(error, AppError) else database_error(error)
            if refusal is None:
                raise
            sys.exit("; ".join([refusal.detail, *reasons(refusal)]))


async def register_superuser(database: Database, fields: dict[str, str]) -> int:
    """Open the account by the same rules as registration, and return its id."""
    data = decode(msgspec.json.encode(fields), UserCreate)
    async with database.transaction() as session:
        user = await UserService(session, Passwords()).register(data, is_superuser=True)
    return user.id


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
