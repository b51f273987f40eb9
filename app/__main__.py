"""The program that starts the service: `python -m app`; with `--reload` it starts again when the code changes.

`python -m app doctor` examines the installation instead.
"""

import gc
import sys

if __name__ == "__main__":
    # What is imported stays: to look for garbage in it meanwhile takes a tenth of the time.
    gc.disable()
    # structlog would import it, for tracebacks that aren't used here. It is there for the command line.
    sys.modules["rich"] = None  # type: ignore[assignment] # as the import system has it for what isn't there

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import msgspec
import structlog
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from litestar import Litestar
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import configure_mappers

from app import logs
from app.database.failures import error_summary
from app.database.sessions import Database
from app.operations.connections import BACKLOG, connections_per_worker
from app.operations.health import log_connections
from app.operations.listening import address_of, claim
from app.operations.migrations import is_newest, migrate
from app.operations.server import DrainingServer
from app.operations.workers import STOP_SECONDS, forget_signals_in_workers, run_worker
from app.settings import Settings
from app.settings.environment import ENV_FILE, make_private, write_first_secret
from app.settings.error import SettingsError

ROOT = Path(__file__).parent.parent
# The server's own log lines take the application's format.
GRANIAN_LOGGERS = {"_granian": {"propagate": True}}
MAX_HEADER_BYTES = 64 * 1024
"""The most bytes of a request's headers, roughly: Granian checks between two reads. Its default is 408 KiB."""


def serve(*, reload: bool = False) -> None:
    """Migrate the database, then serve until a signal, by workers that this process supervises. Raise SettingsError."""
    make_private(ENV_FILE)
    if write_first_secret():
        logs.say(f"Wrote {ENV_FILE} with a random SECRET_KEY")
    settings = Settings.load()
    logs.configure(settings.log_level, production=settings.production)
    address = address_of(settings.host)
    with claim(address, settings.port), metrics_directory(settings), drain_file(settings) as file:
        # By anyio, so that its backend, which every worker uses, is imported before they are forked.
        if not anyio.run(is_newest, settings):
            migrate(settings.database_url)
        if settings.on_postgresql and not settings.database_pooler:
            asyncio.run(check_connections(settings))
        # Workers that build their own application learn the file from the environment.
        preload(msgspec.structs.replace(settings, drain_file=str(file or "")))
        # A worker that looked for garbage among the objects of this process would copy all of their memory.
        gc.freeze()
        gc.enable()
        forget_signals_in_workers()
        from app.main import load_worker  # noqa: PLC0415 - see metrics_directory

        supervisor = server(settings, address, file, reload=reload)
        supervisor.on_startup(lambda: announce(settings))
        loader = load_changed if reload else load_worker
        supervisor.serve(spawn_target=run_worker, target_loader=loader, wrap_loader=False)


def announce(settings: Settings) -> None:
    """Print the URLs of the service and its docs in development; log them in production."""
    from app.http.feature import account_url  # noqa: PLC0415 - see metrics_directory
    from app.main import FEATURES, feature_names  # noqa: PLC0415 - the same

    docs = f"{settings.url}/docs"
    is_without = not account_url(settings, feature_names(FEATURES))
    no_links = "Mails have tokens without links: ACCOUNT_PAGES is off, and no ACCOUNT_URL names other pages"
    if settings.production:
        log = structlog.get_logger()
        log.info("starting", url=settings.url, docs=docs, workers=settings.workers)
        for doubt in [*settings.production_doubts, *([no_links] if is_without else [])]:
            log.warning(doubt)
    else:
        logs.say(f"The API is at {settings.url}, its docs at {docs} and {docs}/scalar")
        if is_without:
            logs.say(no_links)


def preload(settings: Settings) -> None:
    """Build the application once, so that an error in it ends this process; else workers would be replaced for ever.

    Workers are forked from this process. They serve this application, unless it would have threads, which a fork loses,
    or files of metrics, which are each process's own: then they build theirs of the modules that are already there.
    With `--reload` they always do, of the code as it is then.
    """
    from app import main  # noqa: PLC0415 - see metrics_directory

    if settings.metrics or settings.otel_exporter_otlp_endpoint:
        main.create_app(msgspec.structs.replace(settings, metrics=False, otel_exporter_otlp_endpoint=""))
    else:
        main.app = main.create_app(settings)
    # Else each worker would do it at its first statement, where an error in a model would show only then.
    configure_mappers()


def load_changed() -> Litestar:
    """Return the application of the code as it is now to the server, in a worker process.

    The libraries stay as the parent process has imported them, which takes most of the time; the modules that a worker
    inherits of this application may be old. To look for garbage meanwhile would take a tenth of the rest.
    """
    gc.disable()
    for name in [name for name in sys.modules if name.partition(".")[0] == "app"]:
        del sys.modules[name]
    loaded: Litestar = import_module("app.main").load_worker()
    gc.enable()
    return loaded


@contextmanager
def metrics_directory(settings: Settings) -> Generator[None]:
    """Make a temporary directory through which several workers share their metrics.

    prometheus-client reads its name from a variable when it is imported.
    """
    if not settings.metrics or settings.workers == 1 or settings.prometheus_multiproc_dir:
        yield
        return
    with temporary_directory("metrics-", "METRICS with several WORKERS") as directory:
        # https://github.com/prometheus/client_python/issues/886
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


@contextmanager
def drain_file(settings: Settings) -> Generator[Path | None]:
    """Choose the path of the file that tells the workers, once it exists, that the service will stop; may be None."""
    if not settings.drain_seconds:
        yield None
        return
    with temporary_directory("drain-", "DRAIN_SECONDS") as directory:
        file = Path(directory) / "draining"
        os.environ["DRAIN_FILE"] = str(file)
        yield file


def temporary_directory(prefix: str, setting: str) -> TemporaryDirectory[str]:
    """Return a folder for a setting that needs one. Raise SettingsError where the system is read-only."""
    try:
        return TemporaryDirectory(prefix=prefix)
    except OSError as error:
        raise SettingsError(
            f"{setting} needs a folder for temporary files, which TMPDIR may name: {error.strerror}"
        ) from None


async def check_connections(settings: Settings) -> None:
    """Warn once, and not in every worker, when the database server may run out of connections."""
    database = Database(settings.database_url, pool_size=1)
    try:
        await log_connections(database, settings.database_pool_size)
    except (SQLAlchemyError, OSError) as error:
        # A pooler refuses the time-outs that this connection starts with; the migrations' connection has none.
        hint = "; set DATABASE_POOLER=true" if "unsupported startup parameter" in str(error) else ""
        sys.exit(f"The database of DATABASE_URL can't be used: {error_summary(error)}{hint}")
    finally:
        await database.close()


def server(settings: Settings, address: str, file: Path | None, *, reload: bool) -> DrainingServer:
    """Return Granian, which closes connections that send no headers and replaces killed workers (decision 0004)."""
    return DrainingServer(
        "app.main:app",
        drain_file=file,
        drain_seconds=0 if reload else settings.drain_seconds,
        address=address,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop if sys.platform != "win32" else Loops.asyncio,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=settings.keep_alive_seconds * 1000, max_buffer_size=MAX_HEADER_BYTES
        ),
        websockets=False,
        backlog=BACKLOG,
        backpressure=connections_per_worker(settings),
        log_level=LogLevels.warning,
        log_dictconfig={"loggers": GRANIAN_LOGGERS},
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        reload=reload,
        reload_paths=[ROOT / "app"] if reload else None,
    )


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["doctor"]:
            from app.operations.doctor import examine

            sys.exit(examine())
        serve(reload="--reload" in sys.argv[1:])
    except SettingsError as error:
        sys.exit(f"Configuration error: {error}")
