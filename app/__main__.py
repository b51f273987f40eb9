"""Starts the service: `python -m app`, or with `--reload` again whenever its code changes."""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import structlog
from alembic import command
from alembic.config import Config
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from sqlalchemy.exc import SQLAlchemyError

from app import logs
from app.database.sessions import Database
from app.operations.health import log_connections
from app.operations.server import DrainingServer
from app.operations.workers import STOP_SECONDS, forget_signals_in_workers
from app.settings import ENV_FILE, Settings, SettingsError, write_first_secret

ROOT = Path(__file__).parent.parent
# What the server itself says goes out as the application's lines do, instead of in a format of its own.
GRANIAN_LOGGERS = {"_granian": {"propagate": True}}
MAX_HEADER_BYTES = 64 * 1024
"""Of a request, about: it is looked at between two reads. Granian would keep 408 KiB of each connection."""


def serve(*, reload: bool = False) -> None:
    """Migrate the database, then serve until SIGTERM or SIGINT, in this process and its workers."""
    try:
        if write_first_secret():
            print(f"Wrote {ENV_FILE} with a random SECRET_KEY")
        settings = Settings.load()
    except SettingsError as error:
        sys.exit(f"Configuration error: {error}")
    logs.configure(settings.log_level, production=settings.production)
    with metrics_directory(settings), drain_file(settings) as file:
        migrate(settings.database_url)
        if settings.on_postgresql and not settings.database_pooler:
            asyncio.run(check_connections(settings))
        if reload:  # a forked worker would find the old modules, which the migrations have imported, in its memory
            multiprocessing.set_start_method("spawn")
        else:
            try_out(settings)
        announce(settings)
        forget_signals_in_workers()
        from app.main import load_worker  # noqa: PLC0415 - see metrics_directory

        server(settings, file, reload=reload).serve(target_loader=load_worker, wrap_loader=False)


def announce(settings: Settings) -> None:
    """Say where the service is: to a reader in development, in production to whatever reads its logs."""
    docs = f"{settings.url}/docs"
    if settings.production:
        structlog.get_logger().info("starting", url=settings.url, docs=docs, workers=settings.workers)
    else:
        print(f"The API is at {settings.url}, its docs at {docs} and {docs}/scalar", flush=True)


def try_out(settings: Settings) -> None:
    """Build the application once in this process: what is broken ends it here, or workers would be replaced for ever.

    The workers are forked from this process, so they have its modules already and start sooner.
    """
    from app.main import create_app  # noqa: PLC0415 - see metrics_directory

    create_app(msgspec.structs.replace(settings, metrics=False, otel_exporter_otlp_endpoint=""))


@contextmanager
def metrics_directory(settings: Settings) -> Generator[None]:
    """Give several workers a directory in which they put their metrics.

    prometheus-client wants it as a variable, and before it is imported, which the migrations do with the rest.
    """
    if not settings.metrics or settings.workers == 1 or settings.prometheus_multiproc_dir:
        yield
        return
    with TemporaryDirectory(prefix="metrics-") as directory:
        # https://github.com/prometheus/client_python/issues/886
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


@contextmanager
def drain_file(settings: Settings) -> Generator[Path]:
    """Name the file by which this process tells its workers that they are about to stop."""
    with TemporaryDirectory(prefix="drain-") as directory:
        file = Path(directory) / "draining"
        if settings.drain_seconds:
            os.environ["DRAIN_FILE"] = str(file)
        yield file


async def check_connections(settings: Settings) -> None:
    """Tell the operator once, and not in every worker, that the server may run out of connections."""
    database = Database(settings.database_url, pool_size=1)
    try:
        await log_connections(database, settings.database_pool_size)
    except (SQLAlchemyError, OSError) as error:
        # The migrations, which have no time-outs to start with, have got through it.
        hint = "; set DATABASE_POOLER=true" if "unsupported startup parameter" in str(error) else ""
        sys.exit(f"The database of DATABASE_URL can't be used: {getattr(error, 'orig', None) or error}{hint}")
    finally:
        await database.close()


def migrate(url: str) -> None:
    """Bring the database up to the newest revision; safe when several processes do it at once."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = url
    command.upgrade(config, "head")


def server(settings: Settings, file: Path, *, reload: bool) -> DrainingServer:
    """Granian: it closes connections whose headers don't come, and replaces a killed worker (docs/decisions/0004)."""
    return DrainingServer(
        "app.main:app",
        drain_file=file,
        drain_seconds=0 if reload else settings.drain_seconds,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop if sys.platform != "win32" else Loops.asyncio,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=MAX_HEADER_BYTES),
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig={"loggers": GRANIAN_LOGGERS} if settings.production else None,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        reload=reload,
        reload_paths=[ROOT / "app"] if reload else None,
    )


if __name__ == "__main__":
    serve(reload="--reload" in sys.argv[1:])
