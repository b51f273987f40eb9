"""Password hashes and tokens."""

import asyncio
import base64
import json
from datetime import timedelta

import jwt
import pytest
from argon2 import PasswordHasher

from app.security.passwords import HashingOverloadedError, Passwords, normalise
from app.security.tokens import ACCESS, KINDS, REFRESH, InvalidTokenError, Tokens
from tests.factories import SECRET, passwords

HOUR = timedelta(hours=1)
OTHER_SECRET = "another-2b7e151628aed2a6abf7158809cf4f3c"


def issuer(*, secret: str = SECRET, name: str = "http://here", algorithm: str = "HS256", previous: str = "") -> Tokens:
    """Tokens of one issuer."""
    return Tokens(secret=secret, algorithm=algorithm, issuer=name, previous_secret=previous)


# Passwords ------------------------------------------------------------------------------------------------------------


async def test_a_hash_verifies_its_password_and_no_other() -> None:
    """The hash is argon2id's, with the parameters that OWASP names."""
    hashed = await passwords().hash("right")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords().verify(hashed, "right")
    assert not await passwords().verify(hashed, "wrong")


async def test_one_password_has_two_hashes() -> None:
    """Each hash has a salt of its own."""
    assert await passwords().hash("same") != await passwords().hash("same")


async def test_without_a_hash_no_password_is_right() -> None:
    """Not even the one that the dummy hash was made of, which nobody knows."""
    assert not await passwords().verify(None, "anything")


async def test_a_column_that_holds_no_hash_matches_nothing() -> None:
    """A hash of another scheme, or none at all, is a wrong password and not an error."""
    assert not await passwords().verify("$2b$12$0123456789", "anything")


async def test_a_password_is_the_same_however_its_accents_are_composed() -> None:
    """NFKC makes one of the two ways to write é, and of a ligature and its letters."""
    assert normalise("e\u0301\ufb01") == "\u00e9fi"
    hashed = await passwords().hash("caf\u00e9")
    assert await passwords().verify(hashed, "cafe\u0301")


def test_a_hash_of_other_parameters_is_outdated() -> None:
    """Today's is not."""
    assert passwords().is_outdated(PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("old"))
    assert not passwords().is_outdated(passwords().dummy)


async def test_no_more_than_the_given_number_hash_at_once_and_the_queue_is_bounded() -> None:
    """Of seven at once, two are at work, three wait, and two are refused; then there is room again."""
    own = Passwords(threads=2, queue=3)
    at_work = []

    async def watch() -> None:
        while True:
            at_work.append(own.limiter.borrowed_tokens)
            await asyncio.sleep(0.001)

    watcher = asyncio.create_task(watch())
    results = await asyncio.gather(*(own.hash("x") for _ in range(7)), return_exceptions=True)
    watcher.cancel()
    assert [isinstance(result, HashingOverloadedError) for result in results] == [False] * 5 + [True] * 2
    assert max(at_work) == 2
    assert await own.hash("x")


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_a_token_says_what_it_was_issued_with() -> None:
    """The claims come back, with the issuer, the times and an id of the token's own."""
    claims = issuer().read(ACCESS, issuer().issue(ACCESS, 7, HOUR, sid=9))
    assert (claims.user_id, claims.sid) == (7, 9)
    assert (claims.iss, claims.aud, claims.sub) == ("http://here", "http://here", "7")
    assert claims.exp - claims.iat == 3600
    assert claims.jti


def test_two_tokens_are_never_the_same() -> None:
    """Each has a `jti` of its own."""
    assert issuer().issue(ACCESS, 7, HOUR) != issuer().issue(ACCESS, 7, HOUR)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_token_is_never_accepted_for_another(kind: str) -> None:
    """The `typ` of the header tells them apart."""
    token = issuer().issue(kind, 7, HOUR)
    for other in KINDS:
        if other != kind:
            with pytest.raises(InvalidTokenError):
                issuer().read(other, token)
    assert jwt.get_unverified_header(token)["typ"] == kind


def test_a_token_outlives_its_end_by_thirty_seconds_and_no_more() -> None:
    """The leeway is for clocks that differ."""
    assert issuer().read(ACCESS, issuer().issue(ACCESS, 7, timedelta(seconds=-15))).user_id == 7
    with pytest.raises(InvalidTokenError):
        issuer().read(ACCESS, issuer().issue(ACCESS, 7, timedelta(seconds=-31)))


def test_an_expired_token_can_still_be_read_where_that_is_asked_for() -> None:
    """Logging out takes old tokens, too."""
    token = issuer().issue(ACCESS, 7, timedelta(days=-1))
    assert issuer().read(ACCESS, token, expired_too=True).user_id == 7


@pytest.mark.parametrize(
    "other",
    [issuer(secret=OTHER_SECRET), issuer(name="http://there"), issuer(secret=SECRET * 2, algorithm="HS512")],
    ids=["key", "issuer", "algorithm"],
)
def test_the_token_of_another_issuer_is_refused(other: Tokens) -> None:
    """Key, issuer and algorithm must all be the same."""
    with pytest.raises(InvalidTokenError):
        issuer().read(ACCESS, other.issue(ACCESS, 7, HOUR))


def test_tokens_of_the_previous_key_are_still_read_and_new_ones_are_signed_with_the_current() -> None:
    """A key can be replaced without signing anybody out."""
    both = issuer(secret=OTHER_SECRET, previous=SECRET)
    assert both.read(ACCESS, issuer().issue(ACCESS, 7, HOUR)).user_id == 7
    with pytest.raises(InvalidTokenError):
        issuer().read(ACCESS, both.issue(ACCESS, 7, HOUR))


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
def test_a_token_with_another_header_is_refused(header: dict[str, object], key: str) -> None:
    """Nothing in a header decides how a token is checked (RFC 8725)."""
    genuine = issuer().issue(ACCESS, 7, HOUR)
    headers = jwt.get_unverified_header(genuine) | header
    claims = jwt.decode(genuine, options={"verify_signature": False})
    with pytest.raises(InvalidTokenError):
        issuer().read(ACCESS, jwt.encode(claims, key, algorithm=str(headers["alg"]), headers=headers))


@pytest.mark.parametrize("name", ["exp", "iat", "iss", "aud", "sub"])
def test_a_token_without_one_of_its_claims_is_refused(name: str) -> None:
    """A signature alone doesn't make a token of ours."""
    genuine = issuer().issue(ACCESS, 7, HOUR)
    claims = jwt.decode(genuine, options={"verify_signature": False})
    del claims[name]
    with pytest.raises(InvalidTokenError):
        issuer().read(ACCESS, jwt.encode(claims, SECRET, headers=jwt.get_unverified_header(genuine)))


def test_a_token_for_several_audiences_is_refused() -> None:
    """Each token is for this service alone."""
    genuine = issuer().issue(ACCESS, 7, HOUR)
    claims = jwt.decode(genuine, options={"verify_signature": False}) | {"aud": ["http://here", "http://there"]}
    with pytest.raises(InvalidTokenError):
        issuer().read(ACCESS, jwt.encode(claims, SECRET, headers=jwt.get_unverified_header(genuine)))


def test_a_token_whose_claims_were_changed_is_refused() -> None:
    """The signature covers them."""
    header, payload, signature = issuer().issue(ACCESS, 7, HOUR).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "8"}).encode()).decode().rstrip("=")
    with pytest.raises(InvalidTokenError):
        issuer().read(ACCESS, f"{header}.{forged}.{signature}")


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "\u00e9.\u00e9.\u00e9", "\0", "a" * 10_000])
def test_what_is_no_token_at_all_is_refused(token: str) -> None:
    """Whatever it looks like."""
    for text in (token, issuer().issue(ACCESS, 7, HOUR).partition(".")[0] + "." + token):
        with pytest.raises(InvalidTokenError):
            issuer().read(ACCESS, text)


def test_a_refresh_token_carries_its_generation() -> None:
    """A token that was spent is told from its successor by it."""
    assert issuer().read(REFRESH, issuer().issue(REFRESH, 7, HOUR, sid=9, gen=4)).gen == 4


def test_a_key_shorter_than_its_hash_signs_nothing() -> None:
    """RFC 7518 wants 32 bytes for HS256."""
    with pytest.raises(jwt.InvalidKeyError):
        issuer(secret="short")
