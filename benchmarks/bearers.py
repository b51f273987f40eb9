"""The three kinds of bearer tokens that one user's requests can have."""

import os
import re
import subprocess
from base64 import urlsafe_b64encode
from hashlib import sha256
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx

from benchmarks.database import PROJECT, PROJECT_PYTHON
from benchmarks.passwords import PASSWORD
from benchmarks.servers import Running

USERNAME = "user1"
SCOPES = ("account:read", "items:read", "items:write")
CALLBACK = "https://app.example.com/callback"
VERIFIER = "a-verifier-of-the-benchmarks-that-has-48-letters"
API_TOKEN = "API token"
APPLICATION = "application's token"
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


def all_kinds(running: Running) -> dict[str, str]:
    """Return a token of each kind of the project's, by the names under which their samples are kept."""
    name, session = running.server.name, running.log_in(USERNAME)
    return {
        name: session,
        f"{name}, {API_TOKEN}": api_token(running, session),
        f"{name}, {APPLICATION}": application_token(running),
    }


def api_token(running: Running, session: str) -> str:
    """Return a new API token."""
    body = {"name": "Benchmark", "scopes": SCOPES}
    headers = {"Authorization": f"Bearer {session}"}
    answer = httpx.post(f"{running.url}/users/me/tokens", json=body, headers=headers).raise_for_status()
    token: str = answer.json()["token"]
    return token


def application_token(running: Running) -> str:
    """Return the access token of an application that the user lets in, by the code flow (RFC 6749, section 4.1)."""
    client_id = new_client(running)
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": CALLBACK,
        "scope": " ".join(SCOPES),
        "code_challenge": urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    with httpx.Client(base_url=running.url, headers={"Origin": running.url, "Accept": "text/html"}) as browser:
        sign_in(browser)
        location = browser.get("/authorize", params=asked).headers["location"]
    (code,) = parse_qs(urlsplit(location).query)["code"]
    given = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": client_id,
    }
    token: str = httpx.post(f"{running.url}/token", data=given).raise_for_status().json()["access_token"]
    return token


def new_client(running: Running) -> str:
    """Register an application that needs nobody's consent, and return its id."""
    options = [f"--redirect-uri={CALLBACK}", f"--scope={' '.join(SCOPES)}", "--public", "--first-party"]
    command = [PROJECT_PYTHON, "-m", "litestar", "create-client", "Benchmark", *options]
    environment = os.environ | {"DATABASE_URL": running.database_url}
    shown = subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return shown.partition("client_id: ")[2].split()[0]


def sign_in(browser: httpx.Client) -> None:
    """Sign the user in by the page."""
    page = browser.get("/account/sign-in").raise_for_status().text
    hidden = {unescape(name): unescape(value) for name, value in HIDDEN.findall(page)}
    form = {**hidden, "username": USERNAME, "password": PASSWORD}
    browser.post("/account/sign-in", data=form)
