"""Independent client libraries sign people in unmodified, and the README's program does what it says."""

import builtins
import re
from typing import Any

import pytest
from anyio import to_thread
from authlib.integrations.base_client import BaseApp, FrameworkIntegration, OAuth2Mixin, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from joserfc.errors import InvalidClaimError
from requests_oauthlib import OAuth2Session

from tests.oauth.providers import CALLBACK, SCOPE, SECONDS, Provider, walk
from tests.programs import ROOT

PROGRAM = re.compile(r"^```python\n(from authlib.*?)^```$", re.MULTILINE | re.DOTALL)


class OpenIDApplication(OAuth2Mixin, OpenIDMixin, BaseApp):  # type: ignore[misc]  # the library has no types
    """Authlib's client of OpenID Connect, which its integrations of web frameworks share."""

    client_cls = AuthlibSession


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
