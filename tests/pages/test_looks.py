"""The looks of pages and the headers of their answers: nothing from elsewhere, and what an operator may change."""

from pathlib import Path

import pytest
from httpx import AsyncClient
from litestar import Litestar
from litestar.routes import HTTPRoute

from app.main import FEATURES, create_app
from app.pages.looks import device, on
from app.settings import Settings
from app.settings.error import SettingsError
from tests.factories import SECRET, client_of, connect_to, parts_of, register
from tests.outbox import deliver
from tests.pages.person import Page, Person, visiting


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database, which is enough here."""
    return sqlite_url


def paths_of_pages(app: Litestar) -> list[str]:
    """Return the paths of the pages."""
    routes = [route for route in app.routes if isinstance(route, HTTPRoute) and "GET" in route.methods]
    paths = [route.path_format for route in routes if route.path_format.startswith("/account")]
    return ["/", *(path for path in paths if "{" not in path)]


async def test_every_page_is_closed_to_others_and_kept_by_nobody(
    app: Litestar, member: Person, client: AsyncClient
) -> None:
    """All that it loads comes from this server; where it leads within the service there is something."""
    paths = paths_of_pages(app)
    assert len(paths) >= 12
    seen: set[str] = set()
    for path in [*paths, "/account/nothing"]:
        answer = await member.client.get(path, follow_redirects=True)
        assert answer.headers["Cache-Control"] == "no-store", path
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        sources = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert sources["default-src"] == sources["frame-ancestors"] == sources["base-uri"] == "'none'"
        assert sources["script-src"] == sources["style-src"] == sources["form-action"] == "'self'"
        assert "//" not in answer.text.replace("http://www.w3.org", "")
        assert " style=" not in answer.text
        assert "<script>" not in answer.text
        seen |= {str(answer.url.join(address)) for address in Page(answer).addresses if address[0] != "#"}
    for address in seen:
        found = await client.get(address, headers={"Accept": "text/html"})
        assert found.status_code in {200, 303, 405}, address


async def test_the_assets_are_kept_for_ever_under_a_name_of_their_content(person: Person) -> None:
    page = Page(await person.client.get("/account/verify-email"))
    for address in [address for address in page.addresses if "/account/assets/" in address]:
        path = address.removeprefix("..")
        answer = await person.client.get(path)
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Content-Type"].partition(";")[0] in {"text/css", "text/javascript"}
        assert (await person.client.get(path.replace("assets/", "assets/0"))).status_code == 404
        assert (await person.client.get(path + "x")).status_code == 404


async def test_title_colours_and_templates_are_the_operators(sqlite_url: str, tmp_path: Path) -> None:
    """A template that replaces one may build on it."""
    (tmp_path / "error.html").write_text('{% extends "original/error.html" %}{% block title %}Oh!{% endblock %}')
    (tmp_path / "front.html").write_text("<h1>{{ title }}</h1>")
    settings = {"pages_title": "A & B", "pages_colour": "#ffee00", "templates_dir": str(tmp_path)}
    async with visiting(sqlite_url, **settings) as (app, person):
        assert (await person.client.get("/")).text == "<h1>A &amp; B</h1>"
        page = await person.open("/account/nothing", 404)
        assert page.texts["h1"] == "Oh!"
        assert page.texts["lead"] == "There is nothing at this path."
        (styles,) = [address for address in page.addresses if address.endswith("pages.css")]
        css = (await person.client.get(styles.removeprefix(".."))).text
        assert "--accent: #ffee00;\n  --on-accent: #111111;" in css
        assert "A &amp; B</a>" in (await client_of(app).get("/docs")).text


def test_a_template_that_cannot_be_read_is_told_at_the_start(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "front.html").write_text("\n{% if %}")
    settings = Settings(secret_key=SECRET, database_url=sqlite_url, templates_dir=str(tmp_path))
    with pytest.raises(SettingsError, match=r"^TEMPLATES_DIR: front\.html, line 2: "):
        create_app(settings)


async def test_the_docs_and_the_pages_lead_to_each_other(client: AsyncClient, person: Person) -> None:
    docs = Page(await client.get("/docs/scalar"))
    assert "../account" in docs.addresses
    assert "../docs" in (await person.open("/account/sign-in")).addresses


async def test_without_pages_mails_have_the_token_and_no_link(sqlite_url: str, mail_dir: Path) -> None:
    """So it is with the setting, and where the feature is taken out; then nothing leads to them, either."""
    settings = Settings(
        secret_key=SECRET, database_url=sqlite_url, mail_dir=str(mail_dir), jobs_in_process=False, account_pages=False
    )
    for app in (create_app(settings), create_app(settings, [f for f in FEATURES if "pages" not in f.__module__])):
        async with connect_to(app) as client:
            await register(client, f"user{id(app)}")
            (mail,) = await deliver(app, settings)
            text = mail.get_content()
            assert "#" not in text
            assert "http" not in text.partition("If you have no account at")[0]
            assert "\n\nThe token for it is:\n\neyJ" in text
            for path in ("/", "/account", "/account/sign-in", "/.well-known/change-password"):
                assert (await client.get(path)).status_code == 404
            assert "account" not in (await client.get("/docs")).text


async def test_the_account_may_be_elsewhere(sqlite_url: str, mail_dir: Path) -> None:
    """Links in mails lead to ACCOUNT_URL, and so do password managers; the pages here stay unless they are off."""
    elsewhere = "https://app.example.org/me"
    async with visiting(sqlite_url, account_url=f"{elsewhere}/", mail_dir=str(mail_dir)) as (app, person):
        await register(person.client, "alice")
        (mail,) = await deliver(app, parts_of(app).settings)
        assert f"{elsewhere}/verify-email#token=eyJ" in mail.get_content()
        answer = await person.client.get("/.well-known/change-password")
        assert (answer.status_code, answer.headers["Location"]) == (302, f"{elsewhere}/password")


async def test_password_managers_find_the_page(client: AsyncClient) -> None:
    answer = await client.get("/.well-known/change-password")
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://127.0.0.1:8000/account/password")


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("curl/8.5", "curl/8.5"),
        ("", "Unknown device"),
    ],
)
def test_a_device_is_called_by_its_names(user_agent: str, name: str) -> None:
    assert device(user_agent) == name


def test_text_on_a_colour_can_be_read() -> None:
    assert [on(colour) for colour in ("#1d4ed8", "#9ab8ff", "#ffffff", "#000000")] == [
        "#ffffff",
        "#111111",
        "#111111",
        "#ffffff",
    ]
