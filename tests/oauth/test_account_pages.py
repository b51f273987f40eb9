"""The pages on which people let devices in, and end what applications may do."""

import re
from html import unescape

from httpx import AsyncClient, Response
from litestar import Litestar

from tests.auth.oauth import bearer
from tests.oauth.browsers import HIDDEN, code_by_browser, new_browser
from tests.oauth.flow import DEVICE, add_client, credentials, exchange
from tests.oauth.test_device import ask, begin, wait


async def send(browser: AsyncClient, path: str, page: Response, **fields: str) -> Response:
    """Send the form of a page."""
    _, _, main = page.text.partition("<main")
    hidden = {unescape(name): unescape(value) for name, value in HIDDEN.findall(main)}
    return await browser.post(path, data=hidden | fields)


async def test_a_person_types_the_code_and_then_answers(app: Litestar, client: AsyncClient) -> None:
    """An address that brings the code along asks as well; a wrong code is said above the form."""
    application, browser = await add_client(app, **DEVICE), await new_browser(app)
    codes = await begin(client, application)
    path = "/account/device"
    page = await browser.get(f"{path}?code={codes['user_code']}")
    assert f'value="{codes["user_code"]}"' in page.text
    wrong = await send(browser, path, page, code="BBBB-BBBB")
    assert (wrong.status_code, "No device waits with this code" in wrong.text) == (400, True)
    question = await send(browser, path, page, code=codes["user_code"])
    assert "Umbrella Counter" in question.text
    assert (await ask(client, application, codes)).json()["error"] == "slow_down"
    done = await send(browser, path, question, decision="allow")
    assert done.headers["location"] == f"{path}?done=device-allowed"
    await wait(app)
    tokens = (await ask(client, application, codes)).json()
    assert (await client.get("/items/", headers=bearer(tokens))).status_code == 200


async def test_a_person_ends_an_application_on_its_page(app: Litestar, client: AsyncClient) -> None:
    application, browser = await add_client(app), await new_browser(app)
    path = "/account/applications"
    assert "No application may act for you" in (await browser.get(path)).text
    tokens = (await exchange(client, application, await code_by_browser(browser, application))).json()
    page = await browser.get(path)
    assert "Umbrella Counter" in page.text
    grant_id = re.findall(r'name="grant_id" value="(\d+)"', page.text)[0]
    ended = await send(browser, path, page, grant_id=grant_id)
    assert ended.headers["location"] == f"{path}?done=grant-ended"
    assert (await client.get("/items/", headers=bearer(tokens))).status_code == 401
    assert (await send(browser, path, page, grant_id=grant_id)).status_code == 404
    assert credentials(application)["client_id"] not in (await browser.get(path)).text
