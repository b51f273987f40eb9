"""The operator's command for people who have lost their second factors: `litestar reset-factors`."""

import sys

import click

from app.database.commands import run
from app.factors.reset import FactorReset


def reset_factors(reset: FactorReset) -> click.Command:
    """Return the command that removes every second factor of an account."""

    @click.command(name="reset-factors")
    @click.argument("name")
    def command(name: str) -> None:
        """Remove authenticator app, recovery codes and passkeys of a username or e-mail address, and end the sessions.

        Make sure by other means that it is the owner who asks: from then on, the password alone signs in.
        """
        user_id = run(reset.factors.database, reset.remove_all(name))
        if user_id is None:
            sys.exit(f"There is no account with the name {name}")
        click.echo(f"User {user_id} has no second factor any more")

    return command
