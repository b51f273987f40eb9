"""oauth4webapi, a strict client of Node.js, signs people in; it is installed by `just node-client`."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from subprocess import PIPE

import pytest
import requests

from app.oauth.clients import DEVICE_GRANT
from tests.factories import PASSWORD
from tests.oauth.providers import CALLBACK, HIDDEN, SCOPE, SECONDS, Provider, walk

FOLDER = Path(__file__).parent / "oauth4webapi"
NODE = shutil.which("node") or ""
GRANTS = ["authorization_code", "refresh_token", DEVICE_GRANT]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (NODE and (FOLDER / "node_modules").is_dir()),
        reason="there is no Node.js, or not the client; `just node-client` brings that",
    ),
]


def let_in(url: str) -> str:
    """Let a device in by the address that it shows, as alice; return where that leads."""
    browser = requests.Session()
    browser.headers["Accept"] = "text/html"
    page = browser.get(url, timeout=SECONDS)
    for fields in ({"username": "alice", "password": PASSWORD}, {}, {"decision": "allow"}):
        _, _, main = page.text.partition("<main")
        given = re.search(r'name="code" [^>]*value="([^"]*)"|value="([^"]*)"[^>]* name="code"', main)
        code = {"code": given[1] or given[2]} if given else {}
        hidden = {unescape(name): unescape(value) for name, value in HIDDEN.findall(main)}
        page = browser.post(page.url, data=code | hidden | fields, timeout=SECONDS)
        assert page.status_code == 200, page.text
    assert "device-allowed" in page.url
    return page.url


def sign_in(provider: Provider, registered: dict[str, str], method: str, algorithm: str) -> dict[str, object]:
    """Run the client, be the person whom it sends to the service, and return what it has learned."""
    client = {
        **registered,
        "issuer": provider.issuer,
        "redirect_uri": CALLBACK,
        "scope": SCOPE,
        "token_endpoint_auth_method": method,
        "id_token_signed_response_alg": algorithm,
    }
    command = [NODE, "sign-in.js"]
    environment = {"CLIENT": json.dumps(client)}
    with subprocess.Popen(command, cwd=FOLDER, env=environment, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        said = ""
        for said in process.stdout:
            if not said.startswith("http"):
                break
            where = (let_in if "/device" in said else walk)(said.strip())
            process.stdin.write(f"{where}\n")
            process.stdin.flush()
    assert process.returncode == 0
    learned: dict[str, object] = json.loads(said)
    return learned


@pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("variables", [{"ALGORITHM": "ES256"}], indirect=True)
def test_a_strict_client_signs_in_from_the_discovery_document_alone(provider: Provider) -> None:
    """With a secret by each method, and without; it verifies ID tokens and access tokens by the published keys."""
    grants = [option for grant in GRANTS for option in ("--grant-type", grant)]
    own = ("--grant-type", "client_credentials")
    for method, algorithm, options in (
        ("client_secret_basic", "RS256", own),
        ("client_secret_post", "ES256", own),
        ("none", "ES256", ("--public",)),
    ):
        registered = provider.register(*grants, *options, "--id-token-alg", algorithm)
        learned = sign_in(provider, registered, method, algorithm)
        assert learned == {"sub": "1", "amr": ["pwd"], "username": "alice"}
