"""The bound on connections, and the files that the system lets a worker open."""

import resource

import msgspec
import pytest

from app.operations.connections import OTHER_FILES, connections_per_worker
from app.settings import Settings
from tests.factories import SECRET

SETTINGS = Settings(secret_key=SECRET, database_pool_size=20, max_connections=1000, workers=2)
OTHERS = OTHER_FILES + 10


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The soft and the hard limit of open files, in place of this process's own."""
    both = [256, 100_000]

    def store(_: int, values: tuple[int, int]) -> None:
        assert values[1] == both[1]
        both[:] = values

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(both))
    monkeypatch.setattr(resource, "setrlimit", store)
    return both


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "connections"),
    [
        (256, 100_000, 500 + OTHERS, 500),
        (256, resource.RLIM_INFINITY, 500 + OTHERS, 500),
        (100_000, 100_000, 100_000, 500),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY, 500),
        (256, 600, 600, 600 - OTHERS),
        (100, 200, 200, 1),
    ],
)
def test_a_worker_takes_as_many_connections_as_it_may_open_files(
    limits: list[int], soft: int, hard: int, raised: int, connections: int
) -> None:
    """The soft limit is raised as far as it must be; where the hard one is too low, there are fewer connections."""
    limits[:] = [soft, hard]
    assert connections_per_worker(SETTINGS) == connections
    assert limits == [raised, hard]


def test_databases_have_their_connections_beside(limits: list[int]) -> None:
    replicas = tuple(f"postgresql://localhost/{name}" for name in ("a", "b"))
    settings = msgspec.structs.replace(
        SETTINGS, database_url="postgresql://localhost/c", database_replica_urls=replicas, workers=1
    )
    assert connections_per_worker(settings) == 1000
    assert limits[0] == 1000 + OTHER_FILES + 3 * 20
