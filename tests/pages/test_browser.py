"""The pages in a real browser, as a person uses them: with and without scripts, in both schemes, wide and narrow."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from threading import Thread
from time import monotonic, sleep, time
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from pyotp import TOTP

from tests.browsers import CHROMIUM, DEVICE, OPTIONS, Watch, needs_browser, service_in
from tests.factories import PASSWORD
from tests.operations.cli import litestar

pytestmark = needs_browser
MAIL_WITHIN_SECONDS = 30
WIDTHS = (360, 1440)
OTHER = "a new and better one"
SHIFT = """() => new Promise((resolve) => {
    let sum = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) sum += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(sum)));
})"""
ENTRANCE = ["/", *(f"/account/{name}" for name in ("sign-in", "sign-up", "forgot-password", "nothing"))]
# A button for a passkey waits for a device, and leads nowhere without one.
BUTTONS = "main form:not([data-passkey]) button"
MAILED = [f"/account/{name}" for name in ("verify-email", "reset-password", "undo-email")]


@pytest.fixture(scope="module")
def service(service_folder: Path) -> Iterator[str]:
    """The service under a name, since browsers take no passkeys at an IP address."""
    with service_in(service_folder, host="localhost") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this module; each has contexts of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def link_in_mail(folder: Path, page: str, name: str) -> str:
    """Wait for somebody's mail that leads to a page, and return its link."""
    deadline = monotonic() + MAIL_WITHIN_SECONDS
    while monotonic() < deadline:
        for path in folder.glob("outbox/*.eml"):
            text = message_from_bytes(path.read_bytes(), policy=default).get_content()
            if text.startswith(f"Hello {name},") and (
                found := re.search(rf"^http://\S+/account/{page}#token=\S+$", text, re.MULTILINE)
            ):
                path.unlink()
                return found[0]
        sleep(0.02)
    pytest.fail(f"no mail leads to {page}")


def press(page: Page, name: str | re.Pattern[str]) -> None:
    """Press a button of the page itself, and wait for where it leads."""
    with page.expect_navigation():
        page.locator("main").get_by_role("button", name=name, exact=True).click()


def fill(page: Page, **fields: str) -> None:
    """Fill fields in, by their names."""
    for name, value in fields.items():
        page.locator(f"main [name={name}]").fill(value)


def sign_up(page: Page, service: str, name: str) -> None:
    """Open an account in the browser."""
    page.goto(f"{service}/account/sign-up")
    fill(page, username=name, email=f"{name}@example.org", password=PASSWORD)
    press(page, "Sign up")
    assert page.locator(".notice").inner_text().startswith("Welcome!")


def notice(page: Page) -> str:
    """Return what the page says was done."""
    return page.locator(".notice").inner_text()


def test_a_person_does_all_of_it(browser: Browser, service: str, service_folder: Path) -> None:
    """The scripts take the token out of the address; nothing is asked of other servers, and no policy is broken."""
    page = browser.new_context().new_page()
    watch = Watch(page)
    page.goto(service)
    page.get_by_role("link", name="Sign up").click()
    sign_up(page, service, "carol")
    page.goto(link_in_mail(service_folder, "verify-email", "carol"))
    assert page.url == f"{service}/account/verify-email"
    assert not page.locator("[name=token]").is_visible()
    press(page, "Confirm the address")
    assert notice(page) == "Thank you: your e-mail address is confirmed."
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Forgotten?").click()
    fill(page, email="carol@example.org")
    press(page, "Send the mail")
    page.goto(link_in_mail(service_folder, "reset-password", "carol"))
    fill(page, new_password=OTHER)
    press(page, "Set the password")
    fill(page, username="carol", password=OTHER)
    press(page, "Sign in")
    change_account(page, service)
    watch.assert_at_home(service)


def change_account(page: Page, service: str) -> None:
    """End a session, change the name and the password, and delete the account."""
    assert httpx.post(f"{service}/token", data={"username": "carol", "password": OTHER}).is_success
    page.get_by_role("link", name="Sessions").click()
    press(page, re.compile("End the session on python-httpx"))
    assert notice(page) == "That session has ended."
    page.goto(f"{service}/account/profile")
    fill(page, username="caroline")
    press(page, "Save")
    page.goto(f"{service}/account/password")
    fill(page, current_password=OTHER, new_password=PASSWORD)
    press(page, "Change the password")
    page.get_by_role("link", name="Account").first.click()
    page.get_by_role("link", name="Delete").click()
    press(page, "Delete my account")
    assert notice(page) == "Your account is gone, with all that belonged to it."
    page.go_back()
    assert urlsplit(page.url).path == "/account/sign-in"


def test_without_scripts_the_token_is_pasted(browser: Browser, service: str, service_folder: Path) -> None:
    """What is wrong stands beside its field, which has the focus."""
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{service}/account/sign-up")
    fill(page, username="d ora", email="dora@example.org", password=PASSWORD)
    press(page, "Sign up")
    assert page.locator("#username-error").is_visible()
    assert page.locator("#username:focus").count() == 1
    page.goto(f"{service}/account/sign-in")
    assert not page.get_by_role("button", name="Sign in with a passkey").is_visible()
    assert page.get_by_text("Passkeys need a browser").is_visible()
    sign_up(page, service, "dora")
    link = link_in_mail(service_folder, "verify-email", "dora")
    page.goto(link)
    fill(page, token=link.partition("#token=")[2])
    press(page, "Confirm the address")
    assert notice(page) == "Thank you: your e-mail address is confirmed."


def test_a_second_factor_from_enrolment_to_removal(browser: Browser, service: str) -> None:
    """By a code of an app, once signed in by its next code, and once by a recovery code."""
    page = browser.new_context().new_page()
    watch = Watch(page)
    sign_up(page, service, "grace")
    page.get_by_role("link", name="Security").click()
    page.get_by_role("link", name="Add an app").click()
    press(page, "Show the QR code")
    picture = page.get_by_role("img", name="The key as a QR code").bounding_box()
    assert picture is not None
    assert picture["width"] > 200
    app = TOTP(page.locator(".key").inner_text())
    moment = int(time())
    fill(page, code=app.at(moment))
    press(page, "Turn it on")
    codes = page.locator(".codes li").all_inner_texts()
    assert len(codes) == 10
    page.emulate_media(media="print")
    assert page.locator(".codes").is_visible()
    assert not page.locator(".button").is_visible()
    page.emulate_media(media="screen")
    page.get_by_role("button", name="Sign out").click()
    enter_password(page, "grace")
    fill(page, code=app.at(moment, counter_offset=1))
    press(page, "Sign in")
    page.get_by_role("button", name="Sign out").click()
    enter_password(page, "grace")
    page.get_by_role("link", name="Use a recovery code").click()
    fill(page, code=codes[3])
    press(page, "Sign in")
    page.get_by_role("link", name="Security").click()
    assert "9 left" in page.locator("main").inner_text()
    page.get_by_role("link", name="Remove the authenticator app").click()
    press(page, "Remove the app")
    assert notice(page).startswith("The authenticator app was removed")
    watch.assert_at_home(service)


def enter_password(page: Page, name: str) -> None:
    """Sign in by a password, up to the page that asks for the code."""
    fill(page, username=name, password=PASSWORD)
    press(page, "Sign in")
    assert page.locator("[name=code]:focus").count() == 1


class Welcome(BaseHTTPRequestHandler):
    """The pages of an application, at an origin of its own."""

    def do_GET(self) -> None:
        """Answer whatever is asked for."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Welcome back")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def callback() -> Iterator[str]:
    """The address to which the answers of an application go, whose server runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Welcome) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/callback"
        server.shutdown()


def authorize_url(service: str, folder: Path, callback: str, *options: str) -> str:
    """Register an application, and return the address to which it sends people."""
    command = (
        "create-client",
        "Umbrella Counter",
        "--redirect-uri",
        callback,
        "--scope",
        "openid",
        "--public",
        *options,
    )
    # Playwright's own event loop has this thread.
    with ThreadPoolExecutor() as pool:
        status, printed = pool.submit(litestar, f"sqlite:///{folder / 'service.sqlite3'}", *command).result()
    assert status == 0, printed
    given = {"client_id": printed.split()[1], "redirect_uri": callback, "response_type": "code", "state": "s"}
    return f"{service}/authorize?{urlencode(given | {'code_challenge': 'x' * 43, 'code_challenge_method': 'S256'})}"


def test_a_form_leads_to_the_application_at_its_own_origin(
    browser: Browser, service: str, service_folder: Path, callback: str
) -> None:
    """A browser stops a form at the first redirect that its page's policy doesn't name: that to sign in, too."""
    asks = authorize_url(service, service_folder, callback)
    asks_nobody = authorize_url(service, service_folder, callback, "--first-party")
    for url, buttons, answer in (
        (asks, ["Cancel"], "error=access_denied"),
        (asks, ["Allow"], "code="),
        (asks_nobody, [], "code="),
    ):
        page = browser.new_context().new_page()
        watch = Watch(page)
        page.goto(url)
        fill(page, username="alice", password=PASSWORD)
        for button in ["Sign in", *buttons]:
            press(page, button)
        assert page.url.startswith(f"{callback}?")
        assert answer in page.url
        assert page.locator("body").inner_text() == "Welcome back"
        assert watch.complaints == []


def test_a_passkey_from_its_making_to_its_removal(browser: Browser, service: str) -> None:
    """It signs in and leads where one wanted to go; what goes wrong is said beside the button."""
    page = browser.new_context().new_page()
    watch = Watch(page)
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    device = devices.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})["authenticatorId"]
    sign_up(page, service, "heidi")
    page.get_by_role("link", name="Security").click()
    page.get_by_role("link", name="Add a passkey").click()
    assert page.locator("[name=name]").input_value() == "Chrome on Linux"
    press(page, "Add the passkey")
    assert notice(page) == "Your passkey is there. From now on it signs you in."
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_role("button", name="Add the passkey").click()
    page.get_by_text("This device has a passkey of your account already.").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{service}/account/sessions")
    devices.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False})
    page.get_by_role("button", name="Sign in with a passkey").click()
    error = page.get_by_role("alert")
    error.get_by_text("Nothing was done: it was cancelled").wait_for()
    devices.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": True})
    press(page, "Sign in with a passkey")
    assert page.url == f"{service}/account/sessions"
    page.goto(f"{service}/account/confirm?next=%2Faccount%2Fsecurity")
    press(page, "Use your passkey")
    page.get_by_role("link", name="Change the passkey Chrome on Linux").click()
    fill(page, name="Laptop")
    press(page, "Save")
    page.get_by_role("link", name="Change the passkey Laptop").click()
    page.get_by_role("link", name="Remove it").click()
    press(page, "Remove the passkey")
    assert notice(page) == "That passkey was removed. It signs nobody in any more."
    page.get_by_role("button", name="Sign out").click()
    press(page, "Sign in with a passkey")
    assert "could not be verified" in error.inner_text()
    assert [text for text in watch.complaints if "401" not in text] == []


def axe() -> str:
    """Return axe-core; skip the test where it isn't installed."""
    try:
        path = distribution("axe-playwright-python").locate_file("axe_playwright_python/axe.min.js")
    except PackageNotFoundError:
        pytest.skip("axe-playwright-python, which brings axe-core, is not installed")
    return Path(str(path)).read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_moves(browser: Browser, service: str, scheme: str) -> None:
    """On every page, narrow and wide; no page is wider than the screen."""
    source = axe()
    page = browser.new_context(color_scheme="dark" if scheme == "dark" else "light").new_page()
    assert_sound(page, service, [*ENTRANCE, *MAILED, *(f"{path}#token=x" for path in MAILED)], source)
    sign_up(page, service, f"eve-{scheme}")
    links = page.locator(".rows a").evaluate_all("links => links.map((link) => link.pathname)")
    assert len(links) >= 5
    security = [f"/account/security/{name}" for name in ("app", "codes", "remove", "passkey/new")]
    assert_sound(page, service, ["/account", "/account/confirm", *links, *security], source)
    page.goto(f"{service}/account/security/app")
    press(page, "Show the QR code")
    assert_accessible(page, source)
    fill(page, code=TOTP(page.locator(".key").inner_text()).now())
    press(page, "Turn it on")
    assert_accessible(page, source)
    page.get_by_role("button", name="Sign out").click()
    enter_password(page, f"eve-{scheme}")
    assert_sound(page, service, ["/account/sign-in/code", "/account/sign-in/code?recovery=1"], source)


def assert_sound(page: Page, service: str, paths: list[str], source: str) -> None:
    """Check pages by axe-core, for what moves while they load, and for their width."""
    for path in paths:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.goto("about:blank")
            page.goto(f"{service}{path}")
            assert page.evaluate(SHIFT) == 0, (path, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
        assert_accessible(page, source)


def assert_accessible(page: Page, source: str) -> None:
    """Check the page that is open by axe-core."""
    page.evaluate(source)
    found = page.evaluate("axe.run()")
    wrong = [(rule["id"], node["html"]) for rule in found["violations"] for node in rule["nodes"]]
    assert wrong == [], page.url


def test_every_button_of_every_page_leads_somewhere(browser: Browser, service: str) -> None:
    """Pressed without a word typed, or with nonsense in every field, none is a fault of the service."""
    page = browser.new_context().new_page()
    faults: list[str] = []
    page.on("response", lambda answer: faults.append(answer.url) if answer.status >= 500 else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    sign_up(page, service, "frank")
    links = page.locator(".rows a").evaluate_all("links => links.map((link) => link.pathname)")
    pressed = 0
    for path in [*links, *MAILED, *ENTRANCE]:
        page.goto(f"{service}{path}")
        for number in range(page.locator(BUTTONS).count()):
            page.goto(f"{service}{path}")
            page.locator("form").evaluate_all("forms => forms.forEach((form) => { form.noValidate = true; })")
            if page.locator(BUTTONS).count() <= number:  # Another button of this page has just done its work.
                continue
            for field in page.locator("main :is(input:not([type=hidden], [type=checkbox], [hidden]), textarea)").all():
                field.fill("n")
            with page.expect_navigation():
                page.locator(BUTTONS).nth(number).click()
            assert page.locator("h1").count() == 1, path
            pressed += 1
    assert pressed >= 9
    assert faults == []
