"""The feature of operations: health checks, metrics and commands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Tag

from app.http.feature import Chore, Feature, Parts, provide
from app.jobs.worker import Worker
from app.operations.commands import copy_command, job_commands, purge_command, route_table
from app.operations.health import HealthController, Readiness

if TYPE_CHECKING:
    from app.operations.metrics import Metrics


def feature(parts: Parts, worker: Worker, chores: Sequence[Chore], metrics: "Metrics | None") -> Feature:
    """Return the health checks, the metrics where METRICS is set, and the operator's commands."""
    return Feature(
        routes=[HealthController, *(metrics_routes() if metrics else [])],
        tags=[Tag("Health", "For load balancers and supervisors.")],
        dependencies=provide(
            readiness=Readiness(parts.database, worker.background, parts.settings.drain_file), metrics=metrics
        ),
        commands=[
            route_table,
            copy_command(parts.database),
            purge_command(parts.database, chores),
            job_commands(parts.jobs, worker),
        ],
    )


def metrics_routes() -> Sequence[HTTPRouteHandler]:
    """Return the route that Prometheus reads."""
    from app.operations.metrics import read_metrics  # noqa: PLC0415 - only where it is needed

    return [read_metrics]
