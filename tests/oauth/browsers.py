"""Browsers of people who are sent to /authorize by an application."""

import re
from html import unescape

from httpx import AsyncClient, Response
from litestar import Litestar

from app.auth.feature import create_browser_sessions
from app.oauth.clients import Registered
from tests.factories import add_user, auth_service, client_of, parts_of
from tests.oauth.flow import BROWSER, answer_in, parameters

HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


async def browser_of(app: Litestar, user_id: int) -> AsyncClient:
    """Return a browser in which somebody has just signed in."""
    token = await auth_service(app).open_session(user_id, BROWSER)
    cookie = await create_browser_sessions(parts_of(app)).begin(token)
    browser = client_of(app, Accept="text/html")
    browser.cookies.set("session", cookie.value)
    return browser


async def new_browser(app: Litestar, username: str = "alice", **columns: object) -> AsyncClient:
    """Add a user, and return a browser in which they have just signed in."""
    return await browser_of(app, (await add_user(app, username, **columns)).id)


async def authorize(browser: AsyncClient, registered: Registered, **changes: str | None) -> Response:
    """Send a person to /authorize, as an application does; a change to None leaves a parameter out."""
    return await browser.get("/authorize", params=parameters(registered, **changes))


async def allow(browser: AsyncClient, page: Response, decision: str = "allow") -> Response:
    """Answer the question of a page."""
    assert page.status_code == 200, page.text
    _, _, form = page.text.partition('/authorize/decision"')
    fields = {unescape(name): unescape(value) for name, value in HIDDEN.findall(form)}
    return await browser.post("/authorize/decision", data={**fields, "decision": decision})


def answer_of(response: Response) -> dict[str, str]:
    """Return the parameters of an answer that goes back to an application."""
    assert response.status_code == 303, response.text
    return answer_in(response.headers["location"])


async def code_by_browser(browser: AsyncClient, registered: Registered, **changes: str | None) -> str:
    """Let a person grant an application what it asks for, and return the code."""
    response = await authorize(browser, registered, **changes)
    if response.status_code == 200:
        response = await allow(browser, response)
    return answer_of(response)["code"]
