"""mod_auth_openidc before somebody else's pages: Apache signs people in, configured as the docs have it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests import servers
from tests.oauth.providers import SECONDS, Provider, provider, variables, walk  # noqa: F401 - pytest finds the fixtures
from tests.programs import ROOT, free_port

MODULES = Path("/usr/lib/apache2/modules")
PARTS = ("mpm_event", "authn_core", "authz_core", "authz_user", "headers", "auth_openidc")
CONFIGURATION = """
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/errors
DocumentRoot {folder}/pages
Header set X-Person "expr=%{{REMOTE_USER}}"
Header set X-Name "expr=%{{reqenv:OIDC_CLAIM_preferred_username}}"
"""
DOCS = re.compile(r"^```apache\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def as_in_docs(settings: Mapping[str, str]) -> str:
    """Return the configuration of the docs, with other values of some settings."""
    text: str
    (text,) = DOCS.findall((ROOT / "docs" / "sign-in-elsewhere.md").read_text(encoding="utf-8"))
    for name, value in settings.items():
        text, count = re.subn(rf"^{name} .*$", f"{name} {value}", text, flags=re.MULTILINE)
        assert count == 1
    return text


@contextmanager
def apache(port: int, settings: Mapping[str, str]) -> Iterator[str]:
    """Run Apache with a page that is for people who are signed in; give its address."""
    program = servers.program("apache2")
    if not (MODULES / "mod_auth_openidc.so").exists():
        pytest.skip("mod_auth_openidc is not installed; Debian's package is libapache2-mod-auth-openidc")
    load = "".join(f"LoadModule {part}_module {MODULES}/mod_{part}.so\n" for part in PARTS)
    with servers.folder() as folder:
        (folder / "pages").mkdir()
        (folder / "pages" / "index.html").write_text("A page for members")
        text = load + CONFIGURATION.format(port=port, folder=folder) + as_in_docs(settings)
        (folder / "apache2.conf").write_text(text)
        with servers.running([program, "-D", "FOREGROUND", "-f", str(folder / "apache2.conf")], folder):
            servers.wait_for(("127.0.0.1", port), folder)
            yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)
def test_apache_signs_a_person_in(provider: Provider) -> None:  # noqa: F811 - the fixture
    """It verifies the ID token by the published keys, and asks for the name at /userinfo."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/callback"
    registered = provider.register(callback=callback)
    settings = {
        "OIDCProviderMetadataURL": provider.discovery,
        "OIDCClientID": registered["client_id"],
        "OIDCClientSecret": registered["client_secret"],
        "OIDCRedirectURI": callback,
    }
    with apache(port, settings) as url:
        browser = requests.Session()
        answered = walk(f"{url}/index.html", callback, browser)
        page = browser.get(answered, timeout=SECONDS)
        assert (page.status_code, page.url, page.text) == (200, f"{url}/index.html", "A page for members")
        assert (page.headers["X-Person"], page.headers["X-Name"]) == ("1", "alice")
        assert "code=" not in page.url
        stranger = requests.get(answered, headers={"Accept": "text/html"}, timeout=SECONDS, allow_redirects=False)
        assert "A page for members" not in stranger.text
