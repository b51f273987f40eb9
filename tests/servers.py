"""Runs nginx, PgBouncer and Redis, from Debian's packages, and instances of the service."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import make_url

from tests.factories import SECRET
from tests.programs import ROOT, free_port, service

NGINX_CONF = ROOT / "deploy" / "nginx.conf"
LONGEST_SECONDS = 20
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
PGBOUNCER = """
[databases]
* = host={host} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 1000
"""


def missing(name: str) -> str | None:
    """Return why a program can't be run; None when it can."""
    return None if shutil.which(name, path=PATH) else f"{name} is not installed; Debian's package has its name"


def program(name: str) -> str:
    """Return the path of a program; skip the test when it isn't installed."""
    if (reason := missing(name)) is not None:
        pytest.skip(reason)
    return str(shutil.which(name, path=PATH))


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets, and which belongs to the user of the programs in it."""
    with TemporaryDirectory(prefix="scale-", dir="/tmp") as path:
        if user := runner():
            shutil.chown(path, user)
        yield Path(path)


def runner() -> str | None:
    """Return the user of the programs, some of which refuse to run as root; None for the tests' own user."""
    return "nobody" if os.geteuid() == 0 else None


@contextmanager
def running(command: list[str], path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the foreground, until the block ends."""
    with (path / "out").open("wb") as out:
        process = subprocess.Popen(command, user=runner(), cwd=path, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(LONGEST_SECONDS)


def wait_for(address: tuple[str, int], path: Path) -> None:
    """Wait until somebody listens at a port; fail with the program's output."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe, suppress(OSError):
            probe.connect(address)
            return
        time.sleep(0.05)
    pytest.fail(f"Nobody listens at {address}: {(path / 'out').read_text()}")


@contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """Run a Redis that keeps nothing on disk; give its URL and the id of its process."""
    port = free_port()
    command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with folder() as path, running(command, path) as process:
        wait_for(("127.0.0.1", port), path)
        yield f"redis://127.0.0.1:{port}/0", process.pid


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis that keeps nothing on disk; give its URL."""
    with redis_server() as (url, _):
        yield url


@contextmanager
def pgbouncer(server: str, *, pool_size: int = 8) -> Iterator[str]:
    """Run PgBouncer in transaction mode before a PostgreSQL server; give the URL of the same database through it."""
    command = [program("pgbouncer"), "pgbouncer.ini"]
    address, port = make_url(server), free_port()
    with folder() as path:
        text = PGBOUNCER.format(host=address.query["host"], port=port, pool_size=pool_size)
        (path / "pgbouncer.ini").write_text(text)
        with running(command, path):
            wait_for(("127.0.0.1", port), path)
            yield address.set(host="127.0.0.1", port=port, query={}).render_as_string()


@contextmanager
def nginx(*ports: int, in_turn: bool = True) -> Iterator[int]:
    """Run nginx, as `deploy/nginx.conf` has it, before instances at these ports; give its port.

    With `in_turn`, fail at the end of the block unless each instance had its share of the requests.
    """
    port = free_port()
    with folder() as path:
        (path / "nginx.conf").write_text(nginx_conf(port, ports, path))
        with running([program("nginx"), "-p", str(path), "-c", "nginx.conf", "-e", "error.log"], path):
            wait_for(("127.0.0.1", port), path)
            yield port
            if in_turn:
                assert_in_turn(path / "upstreams.log", ports)


def nginx_conf(port: int, ports: tuple[int, ...], path: Path) -> str:
    """Return `deploy/nginx.conf` for these instances, with the settings of a server that needs no rights."""
    site = NGINX_CONF.read_text()
    start, end = site.index("    server "), site.index("    keepalive ")
    servers = "".join(f"    server 127.0.0.1:{instance} max_fails=0;\n" for instance in ports)
    site = (site[:start] + servers + site[end:]).replace("listen 80;", f"listen 127.0.0.1:{port};")
    temporary = "".join(
        f"{name}_temp_path {path}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    log = f"log_format upstream $upstream_addr;\naccess_log {path}/upstreams.log upstream;\n"
    return f"daemon off;\npid {path}/pid;\nevents {{}}\nhttp {{\n{temporary}{log}{site}}}\n"


def assert_in_turn(log: Path, ports: tuple[int, ...]) -> None:
    """Assert that each instance had its share of the requests; a test that asks one alone would show nothing."""
    lines = log.read_text().splitlines()
    for port in ports:
        assert lines.count(f"127.0.0.1:{port}") > len(lines) / len(ports) / 2, (port, len(lines))


@contextmanager
def instances(count: int, folder: Path, **variables: str) -> Iterator[list[int]]:
    """Run instances of the service with the same settings, each a program of its own; give their ports."""
    ports = [free_port() for _ in range(count)]
    shared: Mapping[str, str] = {
        "SECRET_KEY": SECRET,
        "PUBLIC_URL": "http://127.0.0.1:8000",
        "JOBS_IN_PROCESS": "false",
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    with ExitStack() as stack:
        for port in ports:
            own = folder / str(port)
            own.mkdir()
            stack.enter_context(service(own, port, **(dict(shared) | variables)))
        yield ports
