"""The feature of operations: health checks, metrics and commands."""

from collections.abc import Sequence

from litestar.openapi.spec import Tag

from app.http.feature import Chore, Feature, Parts, provide
from app.jobs.worker import Worker
from app.operations.commands import copy_command, job_commands, purge_command, route_table
from app.operations.health import HealthController, Readiness
from app.operations.metrics import Metrics, read_metrics


def feature(parts: Parts, worker: Worker, chores: Sequence[Chore], metrics: Metrics | None) -> Feature:
    """Return the health checks, the metrics where METRICS is set, and the operator's commands."""
    return Feature(
        routes=[HealthController, *([read_metrics] if metrics else [])],
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
