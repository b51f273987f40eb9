"""A real browser for tests: Debian's chromium, which asks no other server for anything, and the service for it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from time import monotonic, sleep

import httpx
import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright

from tests.factories import PASSWORD, SECRET
from tests.programs import ROOT

CHROMIUM = shutil.which("chromium") or ""
# The browser's own errands stay at home, and a name that it asks for has no address.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
START_WITHIN_SECONDS = 60
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
"""A device with passkeys, as the browser plays one (CDP, WebAuthn), whose owner always agrees."""

needs_browser = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium; `apt-get install chromium` brings it"),
]


@pytest.fixture(scope="module")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the service runs, with its mails in `outbox`."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def service(service_folder: Path) -> Iterator[str]:
    """The address of the service as `python -m app` starts it, with a database of its own and one user."""
    with service_in(service_folder) as address:
        yield address


@contextmanager
def service_in(folder: Path, *, host: str = "127.0.0.1") -> Iterator[str]:
    """Run the service, which people know by a host name of this machine, in a folder while the block runs."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": SECRET,
        "DATABASE_URL": f"sqlite:///{folder / 'service.sqlite3'}",
        "PORT": str(port),
        "PUBLIC_URL": f"http://{host}:{port}",
    }
    address = f"http://{host}:{port}"
    with subprocess.Popen([sys.executable, "-m", "app"], cwd=folder, env=environ) as process:
        wait_for(process, address)
        user = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
        assert httpx.post(f"{address}/users/", json=user).status_code == 201
        yield address
        process.terminate()


def wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    """Return once the service is ready."""
    deadline = monotonic() + START_WITHIN_SECONDS
    while process.poll() is None and monotonic() < deadline:
        try:
            if httpx.get(f"{address}/health/ready").is_success:
                return
        except httpx.TransportError:
            sleep(0.1)
    process.kill()
    pytest.fail("the service did not get ready")


class Watch:
    """A record of what a page asks for and complains of."""

    def __init__(self, page: Page) -> None:
        self.addresses: list[str] = []
        self.complaints: list[str] = []
        page.context.on("request", self.note_request)
        page.on("console", self.note_message)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def note_request(self, request: Request) -> None:
        """Keep the address of a request, a worker's or a preflight's too."""
        self.addresses.append(request.url)

    def note_message(self, message: ConsoleMessage) -> None:
        """Keep errors and warnings, since a breach of the page's policy is one."""
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def assert_at_home(self, service: str) -> None:
        """Check that nothing was asked of another server, and that nothing went wrong."""
        assert self.addresses
        home = (f"{service}/", "data:", "blob:")
        assert [address for address in self.addresses if not address.startswith(home)] == []
        assert self.complaints == []


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a browser that has never run before."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, args=OPTIONS, viewport={"width": 1280, "height": 1000}
        )
        yield context.pages[0]
        context.close()
