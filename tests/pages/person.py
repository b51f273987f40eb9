"""A person before a browser without scripts: it keeps cookies, reads forms and sends them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

from httpx import AsyncClient, Response
from litestar import Litestar

from app.main import create_app
from app.settings import Settings
from tests.factories import SECRET, client_of, connect_to

SECTIONS = {"h1", "p", "li", "label", "button", "a", "span", "textarea", "title"}


class Form:
    """A form of a page: where it leads, its fields, and the buttons that have a name."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.action = attributes.get("action", "")
        self.method = attributes.get("method", "get")
        self.fields: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self.buttons: list[tuple[str, str]] = []


class Page(HTMLParser):
    """A page, read: its forms, its texts by their elements, and what it loads."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.texts: dict[str, str] = {}
        self.focused: list[str] = []
        self.described: dict[str, str] = {}
        self.addresses: list[str] = []
        self.reading = ""
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        attributes = {name: value or "" for name, value in attrs}
        self.addresses += [attributes[name] for name in ("href", "src", "action") if name in attributes]
        if tag == "form":
            self.forms.append(Form(attributes))
        elif tag in {"input", "textarea", "select"} and "name" in attributes:
            name = attributes["name"]
            if "checked" in attributes or attributes.get("type") not in {"checkbox", "radio"}:
                self.forms[-1].fields[name] = attributes.get("value", "")
            self.forms[-1].types[name] = attributes.get("type", tag)
            self.described[name] = attributes.get("aria-describedby", "")
        elif tag == "button" and "name" in attributes:
            self.forms[-1].buttons.append((attributes["name"], attributes["value"]))
        if "autofocus" in attributes:
            self.focused.append(attributes.get("name", ""))
        if tag in SECTIONS:
            self.reading = attributes.get("id") or attributes.get("class") or tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self.reading and data.strip():
            self.texts[self.reading] = f"{self.texts.get(self.reading, '')} {data.strip()}".strip()

    @property
    def form(self) -> Form:
        """The page's first form, after the one in the header that signs out."""
        return next(form for form in self.forms if not form.action.endswith("account/sign-out"))


class Person:
    """A person before a browser."""

    def __init__(self, app: Litestar) -> None:
        self.client: AsyncClient = client_of(app, Accept="text/html,*/*;q=0.8")

    @property
    def session(self) -> str | None:
        """The cookie of the session."""
        return self.client.cookies.get("session") or self.client.cookies.get("__Host-session")

    async def open(self, path: str, status: int = 200) -> Page:
        """Open a page."""
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return Page(answer)

    async def send(self, path: str, **fields: str) -> Response:
        """Open a page, fill its form in and send it."""
        page = await self.open(path)
        return await self.client.post(path.partition("?")[0], data=page.form.fields | fields)

    async def done(self, path: str, where: str, **fields: str) -> Page:
        """Fill a form in and send it; return the page to which that leads."""
        answer = await self.send(path, **fields)
        assert (answer.status_code, answer.headers.get("Location")) == (303, where), answer.text
        return await self.open(where)

    async def refused(self, path: str, status: int, **fields: str) -> Page:
        """Fill a form in and send it; return the same page, with what is wrong."""
        answer = await self.send(path, **fields)
        assert answer.status_code == status, answer.text
        return Page(answer)

    async def sign_up(self, username: str, password: str) -> Page:
        """Open an account."""
        email = f"{username}@example.org"
        return await self.done(
            "/account/sign-up", "/account?done=registered", username=username, email=email, password=password
        )

    async def sign_in(self, username: str, password: str, where: str = "/account") -> Page:
        """Sign in."""
        return await self.done("/account/sign-in", where, username=username, password=password)


@asynccontextmanager
async def visiting(database_url: str, **settings: Any) -> AsyncIterator[tuple[Litestar, Person]]:  # noqa: ANN401 - of any setting
    """Run an application with these settings, and give it with a person whom it doesn't know."""
    app = create_app(Settings(secret_key=SECRET, database_url=database_url, jobs_in_process=False, **settings))
    async with connect_to(app):
        yield app, Person(app)
