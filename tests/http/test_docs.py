"""The pages of the OpenAPI document: complete, and closed to other servers."""

import re

import pytest
from httpx import AsyncClient

from app.http.docs.pages import ASSETS, assets_version
from tests.problems import assert_problem

PAGES = ["/docs", "/docs/scalar"]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database, which is enough here."""
    return sqlite_url


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_public_and_takes_all_from_this_server(client: AsyncClient, path: str, slash: str) -> None:
    page = await client.get(path + slash)

    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "//" not in page.text
    addresses = re.findall(r'(?:src|href|data-document)="([^"]+)"', page.text)
    assert len(addresses) >= 4
    for address in addresses:
        found = await client.get(str(page.url.join(address)))
        assert found.status_code == (303 if address.endswith("account") else 200), address


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_has_a_policy_that_lets_no_script_of_others_run(client: AsyncClient, path: str) -> None:
    [policy] = (await client.get(path)).headers.get_list("Content-Security-Policy")
    sources = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    assert sources["default-src"] == sources["frame-ancestors"] == sources["base-uri"] == "'none'"
    assert sources["script-src"] == sources["connect-src"] == "'self'"


@pytest.mark.parametrize("name", ASSETS)
async def test_an_asset_is_kept_for_ever(client: AsyncClient, name: str) -> None:
    path = f"/docs/assets/{assets_version()}/{name}"
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}

    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    compressed = await client.get(path, headers={"Accept-Encoding": "gzip"})

    assert plain.content == compressed.content == ASSETS[name].read_bytes()
    assert compressed.headers["Content-Encoding"] == "gzip"
    for answer in (plain, compressed):
        assert answer.headers["Content-Type"] == types[name.rpartition(".")[2]]
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip;q=0", None),
        ("gzip; Q=0.000, *", None),
        ("br, gzip;q=0.0", None),
        ("*;q=0", None),
        ("x-gzipped", None),
        ("", None),
        ("gzip;q=0.001", "gzip"),
        ("br;q=1, GZIP ; q=0.8", "gzip"),
        ("*", "gzip"),
        ("br, " * 50 + "gzip", None),
    ],
)
async def test_an_asset_is_compressed_only_for_who_takes_it(
    client: AsyncClient, accepted: str, coding: str | None
) -> None:
    """A weight of 0 is a no (RFC 9110, section 12.5.3); what comes after the first twenty codings isn't read."""
    path = f"/docs/assets/{assets_version()}/swagger.js"
    answer = await client.get(path, headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == coding


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/nothing.json",
        "/docs/nothing",
        "/docs/scalar/nothing",
        "/docs/assets/0123456789abcdef/swagger.js",
        f"/docs/assets/{assets_version()}/nothing.js",
    ],
)
async def test_a_path_that_leads_nowhere_is_a_problem_below_the_pages_too(client: AsyncClient, path: str) -> None:
    assert_problem(await client.get(path), 404, "There is nothing at this path")
