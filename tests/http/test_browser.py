"""The two pages of the document in a browser: they work, ask no other server for anything, and keep their policy."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
START_WITHIN_SECONDS = 60

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium; `apt-get install chromium` brings it"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the service as `python -m app` starts it, with a database of its own and one user."""
    folder = tmp_path_factory.mktemp("service")
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": SECRET,
        "DATABASE_URL": f"sqlite:///{folder / 'service.sqlite3'}",
        "PORT": str(port),
    }
    address = f"http://127.0.0.1:{port}"
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


def test_swagger_ui_authorizes_and_tries_an_operation_out(page: Page, service: str) -> None:
    watch = Watch(page)
    page.goto(f"{service}/docs/")
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".auth-container")
    dialog.locator("#oauth_username").fill("alice")
    dialog.locator("#oauth_password").fill(PASSWORD)
    dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
    dialog.get_by_role("button", name="Remove authorization").wait_for()
    page.get_by_role("button", name="Close").last.click()

    operation = page.locator("#operations-Users-read_me")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()

    answer = operation.locator(".live-responses-table")
    answer.locator(".response-col_status", has_text="200").wait_for()
    assert '"username": "alice"' in answer.inner_text()
    watch.assert_at_home(service)


def test_swagger_ui_shows_a_padlock_on_guarded_operations_only(page: Page, service: str) -> None:
    page.goto(f"{service}/docs")
    page.locator("#operations-Users-read_me").wait_for()
    assert page.locator("#operations-Users-read_me .authorization__btn").count() == 1
    assert page.locator("#operations-Users-create_user .authorization__btn").count() == 0


def test_scalar_shows_every_section_and_signs_in(page: Page, service: str) -> None:
    watch = Watch(page)
    page.goto(f"{service}/docs/scalar")
    page.get_by_role("heading", name="Backend API").wait_for()
    for section in ("Users", "Authentication", "Items", "Health", "Models"):
        page.locator("aside").get_by_text(section, exact=True).first.click()
        page.locator("#page").get_by_role("heading", name=section).first.wait_for()

    form = page.locator(".scalar-reference-intro-auth")
    form.get_by_role("combobox", name="Username").fill("alice")
    form.get_by_label("Password", exact=True).fill(PASSWORD)
    form.get_by_role("button", name="Authorize").click()

    form.get_by_text("Clear tokens").wait_for()
    watch.assert_at_home(service)


def test_every_pattern_of_the_document_is_one_for_javascript_too(page: Page, service: str) -> None:
    page.goto(f"{service}/docs")
    script = """async () => {
        const patterns = [];
        const text = await (await fetch("/openapi.json")).text();
        JSON.parse(text, (key, value) => { if (key === "pattern") patterns.push(value); return value; });
        return patterns.map((pattern) => new RegExp(pattern, "u").source);
    }"""
    assert page.evaluate(script)
