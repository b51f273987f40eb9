"""The two pages of the document in a browser: they work, ask no other server for anything, and keep their policy."""

from playwright.sync_api import Page

from tests.browsers import Watch, needs_browser
from tests.factories import PASSWORD

pytestmark = needs_browser


def test_swagger_ui_authorizes_and_tries_an_operation_out(page: Page, service: str) -> None:
    watch = Watch(page)
    page.goto(f"{service}/docs/")
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".auth-container").first
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


def sign_in(window: Page) -> None:
    """Sign alice in, in the window that a page has opened."""
    window.locator("#username").fill("alice")
    window.locator("#password").fill(PASSWORD)
    window.locator("main").get_by_role("button", name="Sign in", exact=True).click()


def test_swagger_ui_signs_in_on_the_pages_of_the_service(page: Page, service: str) -> None:
    """By the code flow, with PKCE, through an application that nobody has to register."""
    watch = Watch(page)
    page.goto(f"{service}/docs/")
    page.get_by_role("button", name="Authorize").click()
    flow = page.locator(".auth-container", has_text="authorizationCode")
    with page.expect_popup() as opened:
        flow.get_by_role("button", name="Apply given OAuth2 credentials").click()
    sign_in(opened.value)
    flow.get_by_role("button", name="Remove authorization").wait_for()
    page.get_by_role("button", name="Close").last.click()

    operation = page.locator("#operations-Users-read_me")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    operation.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    watch.assert_at_home(service)


def test_scalar_signs_in_on_the_pages_of_the_service(page: Page, service: str) -> None:
    watch = Watch(page)
    page.goto(f"{service}/docs/scalar")
    form = page.locator(".scalar-reference-intro-auth")
    form.get_by_role("tab", name="Authorization Code").or_(form.get_by_text("authorizationCode")).first.click()
    with page.expect_popup() as opened:
        form.get_by_role("button", name="Authorize").click()
    sign_in(opened.value)
    form.get_by_text("Clear tokens").wait_for()
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
