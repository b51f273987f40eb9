"""Ordinary OAuth2 client libraries, unmodified, against the real program."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from anyio import to_thread
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient, MissingTokenError, OAuth2Error
from requests_oauthlib import OAuth2Session

from tests.factories import PASSWORD, SECRET
from tests.programs import service

Metadata = dict[str, Any]
SECONDS = 30


@pytest.fixture
def port() -> int:
    """A port that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    return number


@pytest.fixture
def metadata(database_url: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """The metadata of a service that runs and has one user, which are all that a client knows of it."""
    for library in ("AUTHLIB", "OAUTHLIB"):  # Both insist on https, on a loopback address too.
        monkeypatch.setenv(f"{library}_INSECURE_TRANSPORT", "1")
    url = f"http://127.0.0.1:{port}"
    with service(tmp_path, port, DATABASE_URL=database_url, SECRET_KEY=SECRET):
        body = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
        assert requests.post(f"{url}/users/", json=body, timeout=SECONDS).status_code == 201
        yield requests.get(f"{url}/.well-known/oauth-authorization-server", timeout=SECONDS).json()


@pytest.mark.slow
async def test_requests_oauthlib_logs_in_refreshes_and_reads_why_it_failed(metadata: Metadata) -> None:
    """It runs in a thread, since the library knows no event loop."""
    await to_thread.run_sync(use_requests_oauthlib, metadata)


@pytest.mark.slow
async def test_authlib_logs_in_refreshes_revokes_and_reads_why_it_failed(metadata: Metadata) -> None:
    """It runs in a thread, since the library knows no event loop."""
    await to_thread.run_sync(use_authlib, metadata)


def use_requests_oauthlib(metadata: Metadata) -> None:
    """Use everything that the library does without being told how."""
    me, url = f"{metadata['issuer']}/users/me", metadata["token_endpoint"]
    session = OAuth2Session(client=LegacyApplicationClient(client_id="tests"))
    first = session.fetch_token(url, username="alice", password=PASSWORD)
    assert first["expires_in"] == 1800
    assert session.get(me).json()["username"] == "alice"
    second = session.refresh_token(url)
    assert second["access_token"] != first["access_token"]
    assert session.get(me).status_code == 200
    third = session.refresh_token(url)
    with pytest.raises(InvalidGrantError, match="The refresh token is invalid, expired or revoked"):
        session.refresh_token(url, refresh_token=first["refresh_token"])
    session.token = third
    assert session.get(me).status_code == 401
    with pytest.raises(InvalidGrantError, match="Incorrect username or password"):
        session.fetch_token(url, username="alice", password="wrong")
    with pytest.raises((OAuth2Error, MissingTokenError)):
        session.fetch_token(url, username="", password="")
    refresh_by_itself(metadata)


def refresh_by_itself(metadata: Metadata) -> None:
    """Let the library renew an access token, which it takes for expired, in the middle of a call."""
    kept: list[dict[str, Any]] = []
    url = metadata["token_endpoint"]
    client = LegacyApplicationClient(client_id="tests")
    session = OAuth2Session(client=client, auto_refresh_url=url, token_updater=kept.append)
    token = session.fetch_token(url, username="alice@example.org", password=PASSWORD)
    session.token = token | {"expires_at": 1, "expires_in": -1}
    assert session.get(f"{metadata['issuer']}/users/me").status_code == 200
    assert kept[0]["refresh_token"] != token["refresh_token"]


def use_authlib(metadata: Metadata) -> None:
    """Use everything that the library does without being told how, logging out included."""
    me, url = f"{metadata['issuer']}/users/me", metadata["token_endpoint"]
    methods = metadata["token_endpoint_auth_methods_supported"]
    session = AuthlibSession("tests", token_endpoint=url, token_endpoint_auth_method=methods[0])
    first = session.fetch_token(url, username="alice", password=PASSWORD)
    assert session.get(me, timeout=SECONDS).json()["username"] == "alice"
    second = session.refresh_token(url)
    assert second["access_token"] != first["access_token"]
    session.token = second | {"expires_at": 1}
    assert session.get(me, timeout=SECONDS).status_code == 200  # It has refreshed by itself.
    endpoint = metadata["revocation_endpoint"]
    assert session.revoke_token(endpoint, token=session.token["refresh_token"]).status_code == 200
    assert session.get(me, timeout=SECONDS).status_code == 401
    with pytest.raises(OAuthError, match="invalid_grant: The refresh token is invalid, expired or revoked"):
        session.refresh_token(url)
    with pytest.raises(OAuthError, match="invalid_grant: Incorrect username or password"):
        session.fetch_token(url, username="alice", password="wrong")
    confidential = AuthlibSession("tests", "a secret that nobody asked for", token_endpoint=url)
    assert confidential.fetch_token(url, username="alice", password=PASSWORD)["token_type"] == "bearer"
