"""Access tokens that others verify: signed by keys that are published, and replaced without anybody noticing."""

import asyncio
import base64
import json
from datetime import timedelta
from functools import partial
from time import time
from typing import Any

import jwt
import pytest
from anyio import to_thread
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from httpx import AsyncClient
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwt import PyJWK, PyJWKClient
from litestar import Litestar
from sqlalchemy import delete, select

from app.errors import Unavailable
from app.security.signing.algorithms import SigningKey
from app.security.signing.keys import CACHE_SECONDS, PUBLISHED_AHEAD
from app.security.signing.models import StoredSigningKey
from app.security.tokens import ACCESS
from app.settings import Settings
from tests.auth.oauth import Pair, bearer, execute, fetch, new_user, open_session, refresh, refreshed, status_of
from tests.auth.signing import forget_the_time, kid, published, running, stored, wait
from tests.factories import SECRET, Statements, on_sqlite, parts_of
from tests.operations.cli import litestar

NEW = SECRET[::-1]
THIRD = "tests-only-third-" + SECRET[11:]
ISSUER = "http://127.0.0.1:8000"
HOUR = timedelta(hours=1)


class Client(PyJWKClient):
    """PyJWT's client of published keys, which is given them."""

    def __init__(self, keys: dict[str, Any]) -> None:
        super().__init__("https://api.example.org/.well-known/jwks.json")
        self.keys = keys

    def fetch_data(self) -> dict[str, Any]:
        """Return the keys, which the test has fetched."""
        return self.keys


# Verified by others ---------------------------------------------------------------------------------------------------


@on_sqlite
# RFC 9864 has names for the two kinds of EdDSA; OpenID Connect and most libraries know the one that both had.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_other_libraries_verify_access_tokens_by_the_published_keys(settings: Settings, algorithm: str) -> None:
    """Two of them, each by what is published alone."""
    async with running(settings, algorithm=algorithm) as (app, client):
        pair = await new_user(app)
        assert await status_of(client, pair) == 200
        assert await status_of(client, await refreshed(client, pair)) == 200
        answer = await client.get("/.well-known/jwks.json", headers={"Origin": "https://anywhere.example.org"})
    token, keys = pair["access_token"], answer.json()
    (key,) = [key for key in keys["keys"] if key["alg"] == algorithm]
    assert key.keys() <= {"kid", "kty", "alg", "use", "n", "e", "crv", "x", "y"}
    assert algorithm != "RS256" or len(base64.urlsafe_b64decode(key["n"] + "==")) * 8 == 3072
    decoded = joserfc_jwt.decode(token, KeySet.import_key_set(keys), algorithms=[algorithm])
    assert decoded.header == {"alg": algorithm, "kid": key["kid"], "typ": "at+jwt"}
    found = Client(keys).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, found, algorithms=[algorithm], audience=ISSUER, issuer=ISSUER)
    assert claims == decoded.claims
    assert jwt.get_unverified_header(pair["refresh_token"])["alg"] == "HS256"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert set(answer.headers["cache-control"].split(", ")) == {"public", f"max-age={CACHE_SECONDS}"}


@on_sqlite
async def test_by_default_no_key_is_needed_to_sign_in(app: Litestar, client: AsyncClient) -> None:
    """The secret signs access tokens, and nobody asks for keys."""
    with Statements.of(app) as statements:
        pair = await new_user(app)
        assert await status_of(client, pair) == 200
        assert not [statement for statement in statements if "signing_keys" in statement]
    assert jwt.get_unverified_header(pair["access_token"])["alg"] == "HS256"
    assert (await client.get("/.well-known/jwks.json")).status_code == 200


@on_sqlite
async def test_a_key_costs_no_statement_more(
    app: Litestar, settings: Settings, statements: Statements, client: AsyncClient
) -> None:
    """The guard asks one question by either kind of token."""
    pair = await new_user(app)
    statements.clear()
    assert await status_of(client, pair) == 200
    by_secret = list(statements)
    async with running(settings) as (signing, signing_client):
        pair = await open_session(signing, 1)
        with Statements.of(signing) as sent:
            for _ in range(3):
                sent.clear()
                assert await status_of(signing_client, pair) == 200
                assert list(sent) == by_secret


@on_sqlite
async def test_in_the_database_a_key_is_encrypted(settings: Settings) -> None:
    async with running(settings) as (app, _):
        (row,) = await fetch(app, select(StoredSigningKey.encrypted))
        key = parts_of(app).signing_keys.signer("ES256")
        assert key.der() not in row.encrypted
        with pytest.raises(ValueError, match="Could not deserialize"):
            load_der_private_key(row.encrypted, password=None)


def test_a_key_that_was_stored_is_not_checked_again() -> None:
    """The library's check of an RSA key holds the interpreter, and so every request, for a fifth of a second."""
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    wrong = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d, numbers.dmp1 + 2, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    stored_key = SigningKey("RS256", wrong).der()
    with pytest.raises(ValueError, match="Invalid private key"):
        load_der_private_key(stored_key, password=None)
    assert SigningKey.load("RS256", stored_key).der() == stored_key


# Several instances ----------------------------------------------------------------------------------------------------


async def test_instances_that_need_a_key_at_once_make_one(settings: Settings) -> None:
    """Each takes the tokens of the others."""
    async with running(settings) as (one, client), running(settings) as (other, other_client):
        await execute(one, delete(StoredSigningKey))
        keys = [parts_of(app).signing_keys for app in (one, other)]
        for each in keys:
            each.forget()
        signers = await asyncio.gather(*(each.signer_for("ES256") for each in keys * 4))
        assert {signer.kid for signer in signers} == set(await stored(one))
        assert len(await stored(one)) == 1
        pair = await new_user(one)
        assert await status_of(client, pair) == await status_of(other_client, pair) == 200


async def test_a_key_that_another_instance_has_just_made_is_looked_for(settings: Settings) -> None:
    """The database was emptied, say, and the other instance had to make a key that signs at once."""
    async with running(settings) as (app, client):
        await new_user(app)
        await execute(app, delete(StoredSigningKey))
        async with running(settings) as (other, _):
            pair = await open_session(other, 1)
            refused = await client.get("/users/me", headers=bearer(pair))
            assert refused.status_code == 401, "the keys were read a moment ago"
            forget_the_time(app)
            assert await status_of(client, pair) == 200


@on_sqlite
async def test_tokens_of_unknown_keys_cannot_make_the_service_ask_for_each(settings: Settings) -> None:
    """Nor can other texts; within some seconds there is one statement for all of them."""
    async with running(settings) as (app, client):
        pair = await new_user(app)
        claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
        private = ec.generate_private_key(ec.SECP256R1())
        forged = [jwt.encode(claims, private, "ES256", {"typ": ACCESS, "kid": f"{n:043}"}) for n in range(20)]
        forget_the_time(app)
        with Statements.of(app) as statements:
            for token in [*forged, "", "a.b.c", pair["refresh_token"]]:
                assert await status_of(client, {"access_token": token}) == 401
            assert len(statements) == 1
            assert await status_of(client, pair) == 200


@on_sqlite
async def test_before_the_database_answers_nothing_is_signed(settings: Settings, empty_sqlite_url: str) -> None:
    """The service starts nevertheless, and signs once it can read its keys."""
    async with running(settings, database_url=empty_sqlite_url) as (app, client):
        with pytest.raises(Unavailable):
            parts_of(app).tokens.issue(ACCESS, 1, HOUR)
        assert (await client.get("/.well-known/jwks.json")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200


# Rotation -------------------------------------------------------------------------------------------------------------


async def test_a_new_key_is_published_before_it_signs_and_the_old_one_until_its_last_token_has_expired(
    settings: Settings,
) -> None:
    """Nobody who is signed in notices, and an instance that runs meanwhile follows."""
    async with running(settings) as (app, client), running(settings) as (other, other_client):
        pair = await new_user(app)
        old = kid(pair["access_token"])
        await parts_of(app).signing_keys.rotate()
        old_again, new = await stored(app)
        assert old_again == old
        assert await published(client) == [old, new]
        assert kid((await open_session(app, 1))["access_token"]) == old
        await wait(app, timedelta(seconds=CACHE_SECONDS))
        assert kid((await open_session(app, 1))["access_token"]) == old
        await wait(app, PUBLISHED_AHEAD - timedelta(seconds=CACHE_SECONDS))
        await wait(other, timedelta(0))
        following = await refreshed(other_client, pair)
        assert kid(following["access_token"]) == new
        assert await published(other_client) == [old, new]
        for each in (client, other_client):
            assert await status_of(each, pair) == await status_of(each, following) == 200
        lifetime = timedelta(minutes=settings.access_token_expire_minutes)
        await wait(app, lifetime)
        assert await published(client) == [old, new]
        await wait(app, timedelta(minutes=2))
        assert await published(client) == [new]
        assert await parts_of(app).signing_keys.purge() == 1
        assert await stored(app) == [new]
        assert await parts_of(app).signing_keys.purge() == 0


async def test_a_key_that_waits_is_not_followed_by_another(settings: Settings) -> None:
    """Neither by a second rotation nor by one at the same instant."""
    async with running(settings) as (app, _), running(settings) as (other, _):
        await asyncio.gather(*(parts_of(each).signing_keys.rotate() for each in (app, other)))
        await parts_of(app).signing_keys.rotate()
        assert len(await stored(app)) == 2
        await wait(app)
        await parts_of(app).signing_keys.rotate()
        assert len(await stored(app)) == 3


@on_sqlite
async def test_an_operator_rotates_by_a_command_that_says_what_comes_when(settings: Settings) -> None:
    """It needs no running service, and the instances follow."""
    rotate = partial(litestar, settings.database_url, "rotate-signing-keys")
    status, said = await to_thread.run_sync(rotate)
    assert (status, said.startswith("There are no signing keys yet")) == (0, True)
    async with running(settings) as (app, client):
        (old,) = await published(client)
        status, said = await to_thread.run_sync(rotate)
        assert status == 0
        _, new = await stored(app)
        first, second = [line for line in said.splitlines() if line.startswith("ES256")]
        assert first.startswith(f"ES256  {old}  signs from ")
        assert ", and is published until " in first
        assert second.startswith(f"ES256  {new}  signs from ")
        assert await published(client) == [old]
        forget_the_time(app)
        await parts_of(app).signing_keys.look_again()
        assert await published(client) == [old, new]


@on_sqlite
async def test_a_key_stays_as_long_as_the_longest_of_its_tokens(settings: Settings) -> None:
    """Also when tokens have a shorter life by the time of the rotation."""
    async with running(settings, access_token_expire_minutes=600) as (app, _):
        pair = await new_user(app)
    async with running(settings, access_token_expire_minutes=5) as (app, client):
        await parts_of(app).signing_keys.rotate()
        await wait(app)
        await wait(app, timedelta(minutes=590))
        assert await published(client) == await stored(app)
        assert await status_of(client, pair) == 200
        await wait(app, timedelta(minutes=15))
        assert len(await published(client)) == 1


async def test_keys_survive_another_secret_while_the_last_one_is_known(settings: Settings) -> None:
    """They are encrypted anew in passing. Without the last secret they are as good as gone."""
    async with running(settings) as (app, _):
        pair = await new_user(app)
        (key,) = await stored(app)
    async with running(settings, secret_key=NEW, secret_key_previous=SECRET) as (app, client):
        assert await status_of(client, pair) == 200
        assert await stored(app) == await published(client) == [key]
    async with running(settings, secret_key=NEW) as (app, client):
        assert kid((await open_session(app, 1))["access_token"]) == key
        assert await status_of(client, pair) == 200
    async with running(settings, secret_key=THIRD) as (app, client):
        assert await status_of(client, pair) == 401
        fresh = await open_session(app, 1)
        assert await status_of(client, fresh) == 200
        assert await published(client) == [kid(fresh["access_token"])] != [key]


# Another algorithm ----------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(("before", "after"), [("HS256", "ES256"), ("EdDSA", "HS512"), ("HS512", "HS256")])
async def test_after_a_change_of_algorithm_access_tokens_are_refused_and_refreshed(
    settings: Settings, before: str, after: str
) -> None:
    """Nobody has to sign in again."""
    async with running(settings, secret_key=SECRET * 2, algorithm=before) as (app, _):
        pair = await new_user(app)
    async with running(settings, secret_key=SECRET * 2, algorithm=after) as (_, client):
        assert await status_of(client, pair) == 401
        following = await refreshed(client, pair)
        assert jwt.get_unverified_header(following["access_token"])["alg"] == after
        assert await status_of(client, following) == 200
        assert (await client.post("/revoke", data={"token": following["access_token"]})).status_code == 200
        assert (await refresh(client, following)).json()["error"] == "invalid_grant"


def forgeries(pair: Pair, public: PyJWK, jwk: dict[str, Any]) -> dict[str, str]:
    """Return tokens that the public key, or no key, has signed."""
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False}) | {"exp": int(time()) + 3600}
    header = jwt.get_unverified_header(pair["access_token"])
    numbers = public.key
    pem = numbers.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = numbers.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    own = ec.generate_private_key(ec.SECP256R1())
    own_jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(own.public_key()))
    right, payload, signature = pair["access_token"].split(".")
    mac = {"PEM": pem, "DER": der, "JWK": json.dumps(jwk).encode(), "x": jwk["x"].encode(), "secret": SECRET.encode()}
    return {
        **{f"HS256 by {name}": signed_by_mac(header | {"alg": "HS256"}, claims, key) for name, key in mac.items()},
        **{f"{header['alg']} by {name} as a MAC": signed_by_mac(header, claims, key) for name, key in mac.items()},
        "none": jwt.encode(claims, "", "none", {"typ": ACCESS, "kid": header["kid"]}),
        "no signature": f"{right}.{payload}.",
        "another key": jwt.encode(claims, own, "ES256", header),
        "a key of its own": jwt.encode(claims, own, "ES256", header | {"jwk": own_jwk}),
        "no kid": jwt.encode(claims, own, "ES256", {"typ": ACCESS}),
        "a zero signature": f"{right}.{payload}.{'A' * len(signature)}",
    }


def signed_by_mac(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """Return a token whose signature is a MAC, whatever its header says."""
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = base64.urlsafe_b64encode(mac.sign(b".".join(parts), key)).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


@on_sqlite
async def test_no_public_key_signs_a_token_and_no_token_chooses_how_it_is_checked(settings: Settings) -> None:
    """The header is compared as a whole, so it can't name another algorithm or key."""
    async with running(settings) as (app, client):
        pair = await new_user(app)
        keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
        (jwk,) = [key for key in keys if key["alg"] == "ES256"]
        for name, token in forgeries(pair, PyJWK(jwk), jwk).items():
            answer = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401, name
        assert await status_of(client, pair) == 200


@on_sqlite
async def test_tokens_of_other_kinds_are_no_access_tokens_by_a_key_either(settings: Settings) -> None:
    """The key signs what is an ID token, say, by the same algorithm."""
    async with running(settings) as (app, client):
        pair = await new_user(app)
        key = parts_of(app).signing_keys.signer("ES256")
        claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
        for kind in ("JWT", "rt+jwt", "reset+jwt"):
            assert await status_of(client, {"access_token": key.sign(kind, claims)}) == 401
            assert (await refresh(client, key.sign(kind, claims))).status_code == 400
        assert await status_of(client, {"access_token": key.sign(ACCESS, claims)}) == 200
