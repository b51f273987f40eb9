"""The operator's command for applications: `litestar create-client`."""

from typing import Any

import click
import msgspec

from app.database.commands import run
from app.http.requests import decode
from app.oauth.clients import ClientService
from app.oauth.schemas import ClientCreate

OPTIONS = [
    click.argument("name"),
    click.option("--redirect-uri", "redirect_uris", multiple=True, help="Where answers may go; may be given again."),
    click.option("--scope", required=True, help="The most that it may ask for, with spaces between them."),
    click.option("--grant-type", "grant_types", multiple=True, help="By default the code and the refresh token."),
    click.option("--public", is_flag=True, help="It can't keep a secret."),
    click.option("--first-party", is_flag=True, help="It is yours: people aren't asked for their consent."),
    click.option("--id-token-alg", default="RS256", show_default=True, help="RS256 or ES256."),
]


def create_client(clients: ClientService) -> click.Command:
    """Return the command that registers an application, by the same rules as `POST /clients`."""

    def command(**options: Any) -> None:  # noqa: ANN401 - the options above
        """Register an application, which signs people in; its secret is shown this once."""

        async def create() -> str:
            registered = await clients.create(decode(msgspec.json.encode(fields_of(options)), ClientCreate), None)
            secret = [f"client_secret: {registered.secret}"] if registered.secret else []
            return "\n".join([f"client_id: {registered.client.client_id}", *secret])

        click.echo(run(clients.database, create()))

    for option in reversed(OPTIONS):
        command = option(command)
    return click.command(name="create-client")(command)


def fields_of(options: dict[str, Any]) -> dict[str, object]:
    """Return the fields of `POST /clients` that the command's options stand for."""
    return {
        "name": options["name"],
        "redirect_uris": options["redirect_uris"],
        "scopes": options["scope"].split(),
        "confidential": not options["public"],
        "first_party": options["first_party"],
        "id_token_signed_response_alg": options["id_token_alg"],
        **({"grant_types": options["grant_types"]} if options["grant_types"] else {}),
    }
