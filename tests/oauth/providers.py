"""A service that runs, for clients that are libraries and programs of others, and a person whom they send to it."""

import re
import socket
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

from tests.factories import PASSWORD, SECRET
from tests.operations.cli import litestar
from tests.programs import service

SECONDS = 30
CALLBACK = "http://127.0.0.1:9/callback"
SCOPE = "openid profile offline_access items:read"
FORM = re.compile(r'<form[^>]* action="([^"]+)">(.*?)</form>', re.DOTALL)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


class Provider:
    """A service that runs, as an application knows it: by its issuer, and what was registered."""

    def __init__(self, issuer: str, database_url: str) -> None:
        self.issuer = issuer
        self.database_url = database_url
        self.discovery = f"{issuer}/.well-known/openid-configuration"
        self.metadata = requests.get(self.discovery, timeout=SECONDS).json()

    def register(self, *options: str, callback: str = CALLBACK) -> dict[str, str]:
        """Register an application by the operator's command, and return its name and secret."""
        command = ("create-client", "Tests", "--redirect-uri", callback, "--scope", SCOPE, *options)
        status, printed = litestar(self.database_url, *command)
        assert status == 0, printed
        return dict(line.split(": ", 1) for line in printed.splitlines() if line.startswith("client_"))


@pytest.fixture
def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables with which the service runs: those that a test has as its parameter, or none."""
    given: dict[str, str] = getattr(request, "param", {})
    return given


@pytest.fixture
def provider(
    tmp_path: Path, own_database_url: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Provider]:
    """A service with one account, alice's."""
    for library in ("AUTHLIB", "OAUTHLIB"):  # Both insist on https, on a loopback address too.
        monkeypatch.setenv(f"{library}_INSECURE_TRANSPORT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with service(tmp_path, port, DATABASE_URL=own_database_url, SECRET_KEY=SECRET, **variables):
        body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
        assert requests.post(f"{url}/users/", json=body, timeout=SECONDS).status_code == 201
        yield Provider(url, own_database_url)


def walk(url: str, callback: str = CALLBACK, browser: requests.Session | None = None) -> str:
    """Follow an address as a person with a browser does, who signs in as alice and allows what is asked.

    Return the address to which that leads at the application.
    """
    browser = browser or requests.Session()
    browser.headers["Accept"] = "text/html"
    answer = browser.get(url, allow_redirects=False, timeout=SECONDS)
    for _ in range(10):
        if answer.is_redirect:
            url = urljoin(url, answer.headers["Location"])
            if url.startswith(callback):
                return url
            answer = browser.get(url, allow_redirects=False, timeout=SECONDS)
            continue
        assert answer.status_code == 200, answer.text
        action, form = FORM.findall(answer.text.partition("<main")[2])[0]
        fields = {unescape(name): unescape(value) for name, value in HIDDEN.findall(form)}
        fields |= {"decision": "allow"} if 'name="decision"' in form else {"username": "alice", "password": PASSWORD}
        url = urljoin(url, action)
        answer = browser.post(url, data=fields, allow_redirects=False, timeout=SECONDS)
    raise AssertionError(f"{url} leads nowhere")
