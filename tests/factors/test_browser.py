"""The page's example of a frontend, run word for word in Chromium, with a device that the browser plays."""

import re
from pathlib import Path

import httpx
from playwright.sync_api import Page

from tests.browsers import DEVICE, needs_browser, page, service_in  # noqa: F401 - pytest finds the fixture here
from tests.factories import PASSWORD
from tests.programs import ROOT

pytestmark = needs_browser
STORY = """
const added = await addPasskey(token, "Laptop");
const pair = await signIn();
await prove(pair.access_token);
return [added.name, pair.access_token];
"""


def test_the_example_adds_a_passkey_signs_in_and_proves(page: Page, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    (example,) = re.findall(
        r"^```js\n(.*?)^```", (ROOT / "docs" / "second-factor.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (folder := tmp_path / "service").mkdir()
    with service_in(folder, host="localhost") as service:
        pair = httpx.post(f"{service}/token", data={"username": "alice", "password": PASSWORD}).json()
        page.goto(f"{service}/docs")
        devices = page.context.new_cdp_session(page)
        devices.send("WebAuthn.enable")
        devices.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
        name, token = page.evaluate(f"async token => {{ {example} {STORY} }}", pair["access_token"])
        sessions = httpx.get(f"{service}/users/me/sessions", headers={"Authorization": f"Bearer {token}"}).json()
    assert name == "Laptop"
    assert [session["amr"] for session in sessions if session["current"]] == [["pop", "user", "mfa"]]
