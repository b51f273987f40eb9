"""Redirect URIs, compared and registered as the specifications say, and the tricks that they must not fall for."""

import pytest
from sqlalchemy import String

from app.oauth.models import OAuthOrigin
from app.oauth.redirects import answer_to, is_registered, origin_of, reason_against, source_of

GOOD = [
    "https://app.example.com/callback",
    "https://app.example.com",
    "https://app.example.com:8443/callback?tenant=1",
    "http://127.0.0.1/callback",
    "http://127.0.0.1:3000/callback",
    "http://[::1]/callback",
    "https://192.0.2.1:8443/callback",
    "https://[2001:db8::1]:8443/callback",
    f"https://{'a' * 249}.com:65535/callback",
    "com.example.app:/callback",
    "com.example.app://callback",
]
BAD = [
    "",
    "https://",
    "https:///callback",
    "https://app.example.com/callback#part",
    "https://app.example.com/callback#",
    "https://*.example.com/callback",
    "https://user@app.example.com/callback",
    "https://user:password@app.example.com/callback",
    "https://APP.example.com/callback",
    "https://app.example.com:/callback",
    "https://app.example.com:99999/callback",
    "https://app.example.com:port/callback",
    "https://app.example.com/call back",
    "https://app.example.com/\ncallback",
    "https://app.example.com\\@evil.example/callback",
    "https://app.example.com/é",
    "http://app.example.com/callback",
    "http://localhost/callback",
    "http://localhost:3000/callback",
    "http://127.0.0.1.evil.example/callback",
    "http://[fe80::1]/callback",
    f"https://{'a' * 250}.com/callback",
    "https://x;script-src-elem/callback",
    "https://x,y/callback",
    "https://x'y/callback",
    "https://x%3By/callback",
    "https://[fe80::1%25;]/callback",
    "https://[v1.x;y]/callback",
    "HTTPS://app.example.com/callback",
    "//app.example.com/callback",
    "/callback",
    "callback",
    "app:/callback",
    "javascript:alert(1)",
    "data:text/html,hello",
    f"https://app.example.com/{'a' * 2000}",
]


@pytest.mark.parametrize("uri", GOOD)
def test_a_good_redirect_uri_can_be_registered_and_is_itself(uri: str) -> None:
    assert reason_against(uri) is None
    assert is_registered(uri, [uri])


@pytest.mark.parametrize("uri", BAD)
def test_a_bad_redirect_uri_is_refused(uri: str) -> None:
    assert reason_against(uri)


HTTPS = "https://app.example.com/callback"
TRICKS = [
    "https://app.example.com/callback/",
    "https://app.example.com/callback/more",
    "https://app.example.com/callback?more=1",
    "https://app.example.com/callback#more",
    "https://app.example.com/Callback",
    "https://APP.example.com/callback",
    "HTTPS://app.example.com/callback",
    "https://app.example.com:443/callback",
    "https://app.example.com:8443/callback",
    "http://app.example.com/callback",
    "https://app.example.com.evil.example/callback",
    "https://app.example.com@evil.example/callback",
    "https://evil.example/?https://app.example.com/callback",
    "https://evil.example\\@app.example.com/callback",
    "https://app.example.com/%63allback",
    "https://app.example.com/x/../callback",
    "https://app.example.com/./callback",
    "https://app.example.com//callback",
    "https://app.example.com/callback\n",
    " https://app.example.com/callback",
    "https://app.example.com",
    "",
]


@pytest.mark.parametrize("uri", TRICKS)
def test_another_redirect_uri_is_not_taken_for_the_registered_one(uri: str) -> None:
    assert not is_registered(uri, [HTTPS])


@pytest.mark.parametrize("registered", ["http://127.0.0.1/callback", "http://127.0.0.1:3000/callback"])
def test_the_port_of_a_loopback_address_may_be_any(registered: str) -> None:
    for port in ("", ":1", ":3000", ":50123", ":65535"):
        assert is_registered(f"http://127.0.0.1{port}/callback", [registered])


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:080/callback",
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1:3000.evil.example/callback",
        "http://127.0.0.1.evil.example:3000/callback",
        "http://user@127.0.0.1:3000/callback",
        "http://127.0.0.2:3000/callback",
        "http://[::1]:3000/callback",
        "http://localhost:3000/callback",
        "https://127.0.0.1:3000/callback",
        "http://127.0.0.1:3000/callback/",
        "http://127.0.0.1:3000/callback\n",
        "http://127.0.0.1:3000",
    ],
)
def test_of_a_loopback_address_nothing_but_the_port_is_free(uri: str) -> None:
    assert not is_registered(uri, ["http://127.0.0.1/callback"])


def test_the_port_of_any_other_address_is_fixed() -> None:
    assert not is_registered("https://app.example.com:1/callback", [HTTPS])
    assert not is_registered("com.example.app://host:1/", ["com.example.app://host:2/"])


def test_an_origin_is_written_as_browsers_write_it() -> None:
    assert origin_of("https://App.Example.com:443/callback") == "https://app.example.com"
    assert origin_of("http://[::1]:3000/callback") == "http://[::1]:3000"
    assert origin_of("com.example.app:/callback") is None
    assert source_of("com.example.app:/callback") == "com.example.app:"
    assert source_of(HTTPS) == "https://app.example.com"


def test_the_longest_origin_fits_into_its_column() -> None:
    origins = [origin for uri in GOOD if (origin := origin_of(uri))]
    column = OAuthOrigin.__table__.c.origin.type
    assert isinstance(column, String)
    assert column.length
    assert 260 < max(map(len, origins)) <= column.length


def test_an_answer_keeps_the_query_of_the_redirect_uri() -> None:
    answer = {"code": "a b", "state": "x&y=z", "error": None}
    assert answer_to(HTTPS, answer) == f"{HTTPS}?code=a+b&state=x%26y%3Dz"
    assert answer_to(f"{HTTPS}?tenant=1", answer) == f"{HTTPS}?tenant=1&code=a+b&state=x%26y%3Dz"
