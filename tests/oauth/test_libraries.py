"""Independent client libraries sign people in unmodified, and the README's program does what it says."""

import builtins
import re
import socket
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from anyio import to_thread
from authlib.integrations.base_client import BaseApp, FrameworkIntegration, OAuth2Mixin, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from joserfc.errors import InvalidClaimError
from requests_oauthlib import OAuth2Session

from tests.factories import PASSWORD, SECRET
from tests.operations.cli import litestar
from tests.programs import ROOT, service

SECONDS = 30
CALLBACK = "http://127.0.0.1:9/callback"
SCOPE = "openid profile offline_access items:read"
FORM = re.compile(r'<form[^>]* action="([^"]+)">(.*?)</form>', re.DOTALL)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
PROGRAM = re.compile(r"^```python\n(from authlib.*?)^```$", re.MULTILINE | re.DOTALL)


class OpenIDApplication(OAuth2Mixin, OpenIDMixin, BaseApp):  # type: ignore[misc]  # the library has no types
    """Authlib's client of OpenID Connect, which its integrations of web frameworks share."""

    client_cls = AuthlibSession


class Provider:
    """A service that runs, as an application knows it: by its issuer, and what was registered."""

    def __init__(self, issuer: str, database_url: str) -> None:
        self.issuer = issuer
        self.database_url = database_url
        self.discovery = f"{issuer}/.well-known/openid-configuration"
        self.metadata = requests.get(self.discovery, timeout=SECONDS).json()

    def register(self, *options: str) -> dict[str, str]:
        """Register an application by the operator's command, and return its name and secret."""
        command = ("create-client", "Tests", "--redirect-uri", CALLBACK, "--scope", SCOPE, *options)
        status, printed = litestar(self.database_url, *command)
        assert status == 0, printed
        return dict(line.split(": ", 1) for line in printed.splitlines() if line.startswith("client_"))


@pytest.fixture
def provider(tmp_path: Path, own_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A service with one account, alice's."""
    for library in ("AUTHLIB", "OAUTHLIB"):  # Both insist on https, on a loopback address too.
        monkeypatch.setenv(f"{library}_INSECURE_TRANSPORT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with service(tmp_path, port, DATABASE_URL=own_database_url, SECRET_KEY=SECRET):
        body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
        assert requests.post(f"{url}/users/", json=body, timeout=SECONDS).status_code == 201
        yield Provider(url, own_database_url)


def walk(url: str) -> str:
    """Follow an address as a person with a browser does, who signs in as alice and allows what is asked.

    Return where that leads outside of the service.
    """
    browser = requests.Session()
    browser.headers["Accept"] = "text/html"
    answer = browser.get(url, allow_redirects=False, timeout=SECONDS)
    for _ in range(10):
        if answer.status_code == 303:
            url = urljoin(url, answer.headers["Location"])
            if url.startswith(CALLBACK):
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


@pytest.mark.slow
async def test_authlib_signs_a_person_in(provider: Provider) -> None:
    """It runs in a thread, since the library knows no event loop."""
    await to_thread.run_sync(use_authlib, provider)


@pytest.mark.slow
async def test_authlib_learns_who_has_signed_in_from_the_discovery_document_alone(provider: Provider) -> None:
    """It runs in a thread, since the library knows no event loop."""
    await to_thread.run_sync(use_authlib_for_openid, provider)


@pytest.mark.slow
async def test_requests_oauthlib_signs_a_person_in(provider: Provider) -> None:
    """It runs in a thread, since the library knows no event loop."""
    await to_thread.run_sync(use_requests_oauthlib, provider)


def use_authlib(provider: Provider) -> None:
    """Sign in, call the API, refresh and revoke, as a server with a secret and as a program without one."""
    metadata = provider.metadata
    for options, method in (((), "client_secret_basic"), ((), "client_secret_post"), (("--public",), "none")):
        registered = provider.register(*options)
        session = AuthlibSession(
            registered["client_id"],
            registered.get("client_secret"),
            token_endpoint_auth_method=method,
            scope=SCOPE,
            redirect_uri=CALLBACK,
            code_challenge_method="S256",
        )
        verifier = "a-verifier-of-the-tests-that-has-43-characters"
        url, state = session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
        token = session.fetch_token(
            metadata["token_endpoint"], authorization_response=walk(url), state=state, code_verifier=verifier
        )
        items = f"{provider.issuer}/items/"
        assert session.get(items, timeout=SECONDS).json() == []
        renewed = session.refresh_token(metadata["token_endpoint"])
        assert renewed["access_token"] != token["access_token"]
        assert session.get(items, timeout=SECONDS).status_code == 200
        assert session.revoke_token(metadata["revocation_endpoint"]).status_code == 200
        assert session.get(items, timeout=SECONDS).status_code == 401


def use_authlib_for_openid(provider: Provider) -> None:
    """Sign in by OpenID Connect, where the library finds the endpoints, and verifies the ID token by the keys."""
    for algorithm in ("RS256", "ES256"):
        registered = provider.register("--id-token-alg", algorithm)
        application = OpenIDApplication(
            FrameworkIntegration("tests"),
            **registered,
            server_metadata_url=provider.discovery,
            client_kwargs={"scope": SCOPE, "code_challenge_method": "S256"},
        )
        asked = application.create_authorization_url(CALLBACK)
        token = application.fetch_access_token(
            CALLBACK, authorization_response=walk(asked["url"]), code_verifier=asked["code_verifier"]
        )
        claims = application.parse_id_token(token, nonce=asked["nonce"])
        assert (claims["sub"], claims["aud"]) == ("1", registered["client_id"])
        assert application.userinfo(token=token)["preferred_username"] == "alice"
        with pytest.raises(InvalidClaimError):
            application.parse_id_token(token, nonce="another")


def use_requests_oauthlib(provider: Provider) -> None:
    """Sign in, call the API and refresh, with the port of a loopback address that happens to be free."""
    metadata, registered = provider.metadata, provider.register()
    session = OAuth2Session(registered["client_id"], scope=SCOPE.split(), redirect_uri=CALLBACK, pkce="S256")
    url, _ = session.authorization_url(metadata["authorization_endpoint"])
    secret: dict[str, Any] = {"client_secret": registered["client_secret"]}
    session.fetch_token(metadata["token_endpoint"], authorization_response=walk(url), **secret)
    assert session.get(f"{provider.issuer}/items/").json() == []
    auth = (registered["client_id"], registered["client_secret"])
    session.refresh_token(metadata["token_endpoint"], auth=auth)
    assert session.get(f"{provider.issuer}/items/").status_code == 200


@pytest.mark.slow
def test_the_programs_of_readme_and_docs_sign_in(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person opens the address that the program prints, and pastes the one to which it leads."""
    registered = provider.register()
    monkeypatch.setattr(builtins, "input", lambda text: walk(text.split()[1]))
    (program,) = PROGRAM.findall((ROOT / "README.md").read_text())
    program = program.replace("http://127.0.0.1:8000", provider.issuer)
    names: dict[str, Any] = {**registered}
    exec(compile(program, "README.md", "exec"), names)  # noqa: S102 - the README's own lines
    assert names["items"] == []
    assert names["revoked"].status_code == 200
