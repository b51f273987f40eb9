"""Bounds on connections: how many a worker takes, and how long each may hold what it was sent."""

import os
import socket
import sys

import structlog

from app.settings import Settings

if sys.platform != "win32":
    import resource

BACKLOG = 1024
"""The connections that wait in the system's queue when a worker takes no more."""
OTHER_FILES = 256
"""The files that a worker has open beside its connections to clients and databases, at most."""
TAKEN_WITHIN_SECONDS = 30
"""The seconds after which a client is given up that takes nothing of its answer, or whose network is away."""
UNSENT_BYTES = 128 * 1024
"""The most bytes of an answer that the system keeps for a client that doesn't read, roughly."""


def connections_per_worker(settings: Settings) -> int:
    """Return how many clients' connections a worker takes at once, and have the system let it open so many.

    When there are more, the newest wait until others are closed. A process that may open no further file could neither
    take them nor do anything else.
    """
    wanted = max(settings.max_connections // settings.workers, 1)
    others = OTHER_FILES + settings.worker_pool_size * (1 + len(settings.database_replica_urls))
    allowed = allow_files(wanted + others) - others
    if allowed < wanted:
        structlog.get_logger().warning("MAX_CONNECTIONS is more than the system allows", connections=max(allowed, 1))
    return max(min(wanted, allowed), 1)


def allow_files(count: int) -> int:
    """Raise the number of files that this process and its workers may open; return what it is now, at most `count`."""
    if sys.platform == "win32":
        return count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        soft = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return count if soft == resource.RLIM_INFINITY else min(soft, count)


def bound_what_clients_hold(listening: int) -> None:
    """Set the options of a listening socket that every connection inherits; other systems than Linux lack them."""
    if sys.platform == "linux":
        with socket.socket(fileno=os.dup(listening)) as copy:
            copy.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TAKEN_WITHIN_SECONDS * 1000)
            copy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
