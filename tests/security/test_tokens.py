"""Tokens: one that was issued is read again, and every other one is refused."""

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest

from app.security.tokens import ACCESS, KINDS, LEEWAY_SECONDS, REFRESH, InvalidTokenError, Tokens
from tests.factories import SECRET

HOUR = timedelta(hours=1)
OTHER_SECRET = "another-2b7e151628aed2a6abf7158809cf4f3c"


def tokens_of(
    *, secret: str = SECRET, name: str = "http://here", algorithm: str = "HS256", previous: str = ""
) -> Tokens:
    """Return the tokens of an issuer that differs from the tests' own in what is given."""
    return Tokens(secret=secret, algorithm=algorithm, issuer=name, previous_secret=previous)


@pytest.fixture
def tokens() -> Tokens:
    """The tokens of one issuer."""
    return tokens_of()


@pytest.fixture
def token(tokens: Tokens) -> str:
    """An access token of that issuer."""
    return tokens.issue(ACCESS, 7, HOUR, sid=9)


def claims_of(token: str) -> dict[str, Any]:
    """Return a token's claims, without a check."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def resigned(token: str, claims: dict[str, Any]) -> str:
    """Return a token with other claims, which has the same header and was signed with the issuer's own key."""
    return jwt.encode(claims, SECRET, headers=jwt.get_unverified_header(token))


def test_a_token_says_what_it_was_issued_with(tokens: Tokens, token: str) -> None:
    claims = tokens.read(ACCESS, token)
    assert (claims.user_id, claims.sid) == (7, 9)
    assert (claims.iss, claims.aud, claims.sub) == ("http://here", "http://here", "7")
    assert claims.exp - claims.iat == 3600
    assert claims.jti


def test_two_tokens_are_never_the_same(tokens: Tokens) -> None:
    """Each token has a `jti` of its own."""
    assert tokens.issue(ACCESS, 7, HOUR) != tokens.issue(ACCESS, 7, HOUR)


def test_a_refresh_token_carries_its_generation(tokens: Tokens) -> None:
    """The generation tells a spent token from its successor."""
    assert tokens.read(REFRESH, tokens.issue(REFRESH, 7, HOUR, sid=9, gen=4)).gen == 4


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_token_is_never_accepted_for_another(tokens: Tokens, kind: str) -> None:
    """The `typ` of the header tells the kinds apart."""
    token = tokens.issue(kind, 7, HOUR)
    for other in KINDS:
        if other != kind:
            with pytest.raises(InvalidTokenError):
                tokens.read(other, token)
    assert jwt.get_unverified_header(token)["typ"] == kind


def test_a_token_outlives_its_end_by_thirty_seconds_and_no_more(tokens: Tokens) -> None:
    """The leeway is for clocks that differ."""
    assert tokens.read(ACCESS, tokens.issue(ACCESS, 7, timedelta(seconds=-15))).user_id == 7
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, tokens.issue(ACCESS, 7, timedelta(seconds=-31)))


def test_a_token_that_was_read_before_expires_all_the_same(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signature is verified once; nothing else is remembered, neither its end nor that its key was accepted."""
    token = tokens.issue(ACCESS, 7, HOUR)
    verified = tokens.verified.cache_info().misses
    assert tokens.read(ACCESS, token) == tokens.read(ACCESS, token)
    assert tokens.verified.cache_info().misses == verified + 1
    end = tokens.read(ACCESS, token).exp
    monkeypatch.setattr("app.security.tokens.time", lambda: float(end + LEEWAY_SECONDS))
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, token)
    monkeypatch.undo()
    monkeypatch.setitem(tokens.keys, ACCESS, {})
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, token)


def test_no_forged_token_is_remembered(tokens: Tokens) -> None:
    """A stranger's tokens take no memory, and crowd nobody's out."""
    token = tokens.issue(ACCESS, 7, HOUR)
    tokens.read(ACCESS, token)
    remembered = tokens.verified.cache_info().currsize
    for _ in range(2):
        with pytest.raises(InvalidTokenError):
            tokens.read(ACCESS, token[:-4] + "AAAA")
    assert tokens.verified.cache_info().currsize == remembered


def test_an_expired_token_can_still_be_read_where_that_is_asked_for(tokens: Tokens) -> None:
    """Logging out takes old tokens, too."""
    token = tokens.issue(ACCESS, 7, timedelta(days=-1))
    assert tokens.read(ACCESS, token, expired_too=True).user_id == 7


@pytest.mark.parametrize(
    "other",
    [tokens_of(secret=OTHER_SECRET), tokens_of(name="http://there"), tokens_of(secret=SECRET * 2, algorithm="HS512")],
    ids=["key", "issuer", "algorithm"],
)
def test_the_token_of_another_issuer_is_refused(tokens: Tokens, other: Tokens) -> None:
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, other.issue(ACCESS, 7, HOUR))


def test_tokens_of_the_previous_key_are_still_read_and_new_ones_are_signed_with_the_current(tokens: Tokens) -> None:
    """A key can be replaced without signing anybody out."""
    both = tokens_of(secret=OTHER_SECRET, previous=SECRET)
    assert both.read(ACCESS, tokens.issue(ACCESS, 7, HOUR)).user_id == 7
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, both.issue(ACCESS, 7, HOUR))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "none"}, ""),
        ({"alg": "HS512"}, SECRET * 2),
        ({"crit": ["b64"], "b64": True}, SECRET),
        ({"typ": "JWT"}, SECRET),
        ({"kid": "other"}, SECRET),
        ({"jwk": {"kty": "oct", "k": "AA"}}, SECRET),
    ],
    ids=["none", "HS512", "crit", "typ", "kid", "jwk"],
)
def test_a_token_with_another_header_is_refused(
    tokens: Tokens, token: str, header: dict[str, object], key: str
) -> None:
    """No header decides how a token is checked (RFC 8725)."""
    headers = jwt.get_unverified_header(token) | header
    forged = jwt.encode(claims_of(token), key, algorithm=str(headers["alg"]), headers=headers)
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, forged)


@pytest.mark.parametrize("name", ["exp", "iat", "iss", "aud", "sub"])
def test_a_token_without_one_of_its_claims_is_refused(tokens: Tokens, token: str, name: str) -> None:
    claims = claims_of(token)
    del claims[name]
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, resigned(token, claims))


def test_a_token_for_several_audiences_is_refused(tokens: Tokens, token: str) -> None:
    """Each token is for this service alone."""
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, resigned(token, claims_of(token) | {"aud": ["http://here", "http://there"]}))


def test_a_token_whose_claims_were_changed_is_refused(tokens: Tokens, token: str) -> None:
    header, _, signature = token.split(".")
    claims = json.dumps(claims_of(token) | {"sub": "8"}).encode()
    payload = base64.urlsafe_b64encode(claims).decode().rstrip("=")
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, f"{header}.{payload}.{signature}")


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "\u00e9.\u00e9.\u00e9", "\0", "a" * 10_000])
@pytest.mark.parametrize("with_header", [False, True], ids=["alone", "after a genuine header"])
def test_a_text_that_is_no_token_is_refused(tokens: Tokens, token: str, text: str, *, with_header: bool) -> None:
    header = token.partition(".")[0] + "." if with_header else ""
    with pytest.raises(InvalidTokenError):
        tokens.read(ACCESS, header + text)


def test_a_key_shorter_than_its_hash_signs_nothing() -> None:
    """RFC 7518 wants 32 bytes for HS256."""
    with pytest.raises(jwt.InvalidKeyError):
        tokens_of(secret="short")
