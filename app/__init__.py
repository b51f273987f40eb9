"""A REST service: accounts, OAuth2 logins, and resources that belong to their users."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litestar import Litestar

__version__ = "1.0.0"


def create_app() -> "Litestar":
    """Return the application of the environment's settings: the `litestar` command looks for this function here.

    Without it, the command would go through the modules in the order of the directory, and stop at the first type hint
    that it can't resolve.
    """
    from app.main import app  # noqa: PLC0415 - nothing is built at import, and `app.main` imports this package

    return app
