"""The operator's command for accounts: `litestar create-superuser`."""

import click
import msgspec

from app.database.commands import run
from app.http.requests import decode
from app.users.schemas import UserCreate
from app.users.service import UserService


def create_superuser(users: UserService) -> click.Command:
    """Return the command that opens an account with a superuser's rights, by the same rules as registration."""

    @click.command(name="create-superuser")
    @click.option("--username", prompt=True)
    @click.option("--email", prompt=True)
    @click.password_option(envvar="SUPERUSER_PASSWORD")
    def command(username: str, email: str, password: str) -> None:
        """Open an account with a superuser's rights."""
        fields = {"username": username, "email": email, "password": password}

        async def create() -> str:
            user = await users.create(decode(msgspec.json.encode(fields), UserCreate), is_superuser=True)
            return f"Superuser {user.username} has id {user.id}"

        click.echo(run(users.database, create()))

    return command
