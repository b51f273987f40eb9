"""The migrations, which the program runs before it serves, unless the database has them all.

Alembic is imported where it is needed: a start that has nothing to migrate is a tenth of a second sooner without it.
"""

import re
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.database.engine import threads_ended
from app.database.sessions import Database
from app.database.status import revision
from app.settings import Settings

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"
REVISIONS = re.compile(r'^(down_)?revision = "(\w+)"', re.MULTILINE)
"""The lines of a migration that name it and the one before it."""


def newest_revisions() -> set[str]:
    """Return the revisions that no other one follows; there is one, unless two were written at the same time."""
    files = [path.read_text(encoding="utf-8") for path in (MIGRATIONS / "versions").glob("*.py")]
    found = [match for file in files for match in REVISIONS.findall(file)]
    return {name for is_down, name in found if not is_down} - {name for is_down, name in found if is_down}


async def is_newest(settings: Settings) -> bool:
    """Return whether the database has the newest revision; return False also where it can't be asked, or has none."""
    database = Database(settings.database_url, pool_size=1, pooler=settings.database_pooler)
    try:
        return {await revision(database)} == newest_revisions()
    except (SQLAlchemyError, OSError):
        await threads_ended()
        return False  # The migrations say what is wrong.
    finally:
        await database.close()


def migrate(url: str) -> None:
    """Migrate the database to the newest revision; several processes may do so at once.

    One of newer code is left as it is, as long as it has all that this code needs.
    """
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes.update(url=url, serves=True)
    command.upgrade(config, "head")
