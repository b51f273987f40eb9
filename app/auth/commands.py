"""The operator's command for signing keys: `litestar rotate-signing-keys`."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import click

from app.database.commands import run
from app.security.signing.keys import Scheduled, SigningKeys


def rotate_signing_keys(keys: SigningKeys) -> click.Command:
    """Return the command that makes new signing keys."""

    @click.command(name="rotate-signing-keys")
    def command() -> None:
        """Publish new signing keys, which sign in the old ones' place once everybody can know them."""
        lines = list(schedule_lines(run(keys.stored.database, keys.rotate())))
        click.echo("\n".join(lines) or "There are no signing keys yet; they are made when they are first needed")

    return command


def schedule_lines(schedule: Sequence[Scheduled]) -> Iterator[str]:
    """Yield a line for each key: from when it signs, and until when it signs and is published."""
    for one in schedule:
        line = f"{one.key.algorithm:6} {one.key.kid}  signs from {shown(one.signs_from)}"
        if one.signs_until and one.expires_at:
            line += f" until {shown(one.signs_until)}, and is published until {shown(one.expires_at)}"
        yield line


def shown(moment: datetime) -> str:
    """Return a moment for a person."""
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"
