"""Passkeys: added, signed in by, good once, and removed."""

import asyncio
from datetime import timedelta
from time import time

import pytest
from httpx import AsyncClient
from litestar import Litestar
from msgspec.structs import replace
from sqlalchemy import select, update
from structlog.testing import capture_logs

from app.auth.caller import NO_SESSION
from app.auth.models import LoginSession
from app.database.models import now
from app.factors.feature import create_challenges, create_factor_reset
from app.factors.models import Passkey, SpentChallenge
from app.factors.passkeys import challenges
from app.factors.passkeys.challenges import REAUTHENTICATION, SIGN_IN, Challenges
from app.factors.passkeys.encoding import decoded
from app.factors.passkeys.relying_party import relying_party
from app.factors.passkeys.repository import SpentChallengeRepository
from app.factors.passkeys.service import MAX_PASSKEYS
from app.http.feature import Parts
from app.main import create_app
from app.settings import Settings
from app.users.models import User
from tests.auth.oauth import bearer, execute, fetch, new_user, open_session
from tests.auth.test_fresh_sign_in import age
from tests.factories import People, client_of, connect_to, log_in, on_sqlite
from tests.factors.authenticator import PRESENT, Authenticator, Json, add_passkeys, b64, request_options, sign_in_by
from tests.factors.test_totp import amr_of, signed_in, subjects
from tests.outbox import deliver
from tests.problems import assert_oauth_error, assert_problem, pointers

WRONG = "The passkey could not be verified"
REFUSED_BY_LIBRARY = ["origin", "rp_id", "unverified", "signature"]


def five_minutes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock by which challenges expire show the first second in which those of now are too old."""
    later = time() + 5 * 60
    monkeypatch.setattr(challenges, "time", lambda: later)


async def creation_options(client: AsyncClient) -> Json:
    """Return the options of a new key."""
    options: Json = (await client.post("/users/me/passkeys/options")).json()
    return options


async def test_from_the_first_passkey_to_its_removal(
    app: Litestar, client: AsyncClient, alice: AsyncClient, settings: Settings
) -> None:
    """The story of one account, its sessions, and the mails to its owner."""
    device = Authenticator()
    options = await creation_options(alice)
    assert options["rp"] == {"id": "127.0.0.1", "name": "Backend API"}
    assert options["user"]["name"] == "alice"
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert "=" not in options["challenge"] + options["user"]["id"]
    added = await device.add_to(alice)
    assert added.status_code == 201, added.text
    assert (await alice.get("/users/me/factors")).json()["passkeys"] == [added.json()]
    assert (added.json()["name"], added.json()["last_used_at"], added.json()["backed_up"]) == ("Telephone", None, True)
    assert await amr_of(alice) == ["pop", "user", "mfa"]
    assert subjects(await deliver(app, settings)) == ["You have a new passkey"]
    (excluded,) = (await creation_options(alice))["excludeCredentials"]
    assert excluded["id"] == device.credential({})["id"]

    second = await signed_in(app, await device.sign_in(client))
    assert await amr_of(second) == ["pop", "user", "mfa"]
    (listed,) = (await second.get("/users/me/factors")).json()["passkeys"]
    assert listed["last_used_at"]
    assert (await log_in(client, "alice")).status_code == 200  # The password goes on, and needs no code.

    path = f"/users/me/passkeys/{listed['id']}"
    renamed = await alice.patch(path, json={"name": "Old telephone"})
    assert (renamed.status_code, renamed.json()) == (200, listed | {"name": "Old telephone"})
    assert (await second.delete(path)).status_code == 204
    assert (await second.get("/users/me/factors")).json()["passkeys"] == []
    assert await amr_of(alice) == await amr_of(second) == ["pop", "user"]
    assert_oauth_error(await device.sign_in(client), 401, "invalid_grant", WRONG)
    assert subjects(await deliver(app, settings)) == ["A passkey was removed"]
    assert_problem(await second.delete(path), 404, "Passkey not found")
    assert_problem(await second.patch(path, json={"name": "gone"}), 404, "Passkey not found")


async def test_anothers_passkey_is_not_there(alice: AsyncClient, people: People) -> None:
    passkey = (await Authenticator().add_to(alice)).json()
    bob, path = await people.sign_in("bob"), f"/users/me/passkeys/{passkey['id']}"
    assert_problem(await bob.patch(path, json={"name": "mine"}), 404, "Passkey not found")
    assert_problem(await bob.delete(path), 404, "Passkey not found")
    assert (await alice.get("/users/me/factors")).json()["passkeys"] == [passkey]


async def test_of_twelve_uses_of_one_challenge_at_once_one_signs_in(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    device = Authenticator()
    await device.add_to(alice)
    credential = device.get(await request_options(client))
    answers = await asyncio.gather(*(sign_in_by(client, credential) for _ in range(12)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {401, 429}
    assert len(await fetch(app, select(LoginSession.id))) == 2  # alice's, who enrolled, and the one


async def test_of_two_uses_of_one_new_key_at_once_one_is_added(alice: AsyncClient) -> None:
    credential = Authenticator().create(await creation_options(alice))
    body = {"name": "Telephone", "credential": credential}
    answers = await asyncio.gather(*(alice.post("/users/me/passkeys", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]


async def test_of_three_who_add_the_twentieth_at_once_one_does(app: Litestar, alice: AsyncClient) -> None:
    """The twenty-first is refused before a device is asked."""
    await add_passkeys(app, (await alice.get("/users/me")).json()["id"], MAX_PASSKEYS - 1)
    bodies = [
        {"name": "Telephone", "credential": Authenticator().create(await creation_options(alice))} for _ in range(3)
    ]
    answers = await asyncio.gather(*(alice.post("/users/me/passkeys", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert len((await alice.get("/users/me/factors")).json()["passkeys"]) == MAX_PASSKEYS
    assert_problem(await alice.post("/users/me/passkeys/options"), 409, "Too many passkeys")


async def test_a_new_key_needs_a_challenge_of_this_session_and_of_this_purpose(
    alice: AsyncClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await people.sign_in_again((await alice.get("/users/me")).json()["id"])
    device = Authenticator()
    owner = {"user": (await creation_options(alice))["user"]}
    for options in (await creation_options(other), owner | await request_options(alice)):
        body = {"name": "Telephone", "credential": device.create(options)}
        refused = await alice.post("/users/me/passkeys", json=body)
        assert_problem(refused, 422)
        assert pointers(refused) == ["/credential"]
    body = {"name": "Telephone", "credential": device.create(await creation_options(alice))}
    with monkeypatch.context() as patch:
        five_minutes_later(patch)
        assert (await alice.post("/users/me/passkeys", json=body)).status_code == 422
    assert (await device.add_to(alice)).status_code == 201
    taken = await device.add_to(await people.sign_in("bob"))
    assert_problem(taken, 422)
    assert taken.json()["errors"][0]["detail"] == "is registered already"


@on_sqlite
@pytest.mark.parametrize("wrong", ["origin", "rp_id", "unverified", "junk", "padding"])
async def test_a_new_key_that_does_not_verify_is_422(alice: AsyncClient, wrong: str) -> None:
    device = Authenticator()
    match wrong:
        case "origin":
            device.origin = "https://evil.example"
        case "rp_id":
            device.rp_id = "example.org"
        case "unverified":
            device.flags = PRESENT
    credential = device.create(await creation_options(alice))
    if wrong == "junk":
        credential["response"]["attestationObject"] = "oWNmbXRkbm9uZQ"
    if wrong == "padding":
        credential["rawId"] += "="
    refused = await alice.post("/users/me/passkeys", json={"name": "Telephone", "credential": credential})
    assert_problem(refused, 422)
    assert pointers(refused) == ["/credential"]


@on_sqlite
@pytest.mark.parametrize("wrong", [*REFUSED_BY_LIBRARY, "handle", "client_data", "challenge", "no_handle"])
async def test_a_signature_that_does_not_verify_signs_nobody_in(
    client: AsyncClient, alice: AsyncClient, wrong: str
) -> None:
    device = Authenticator()
    await device.add_to(alice)
    match wrong:
        case "origin":
            device.origin = "https://evil.example"
        case "rp_id":
            device.rp_id = "example.org"
        case "unverified":
            device.flags = PRESENT
        case "handle":
            device.handle = "AAAAAAAAAAk"
    credential = device.get(await request_options(client))
    response = credential["response"]
    match wrong:
        case "signature":
            response["signature"] = Authenticator().get(await request_options(client))["response"]["signature"]
        case "client_data":
            response["clientDataJSON"] = "bm8"
        case "challenge":
            response["clientDataJSON"] = b64(b'{"challenge": "A"}')
        case "no_handle":
            response["userHandle"] = None
    with capture_logs() as logs:
        refused = await sign_in_by(client, credential)
    assert_oauth_error(refused, 401, "invalid_grant", WRONG)
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    causes = [line["cause"] for line in logs if line["event"] == "passkey_unverified"]
    assert causes == (["InvalidAuthenticationResponse"] if wrong in REFUSED_BY_LIBRARY else [])


@on_sqlite
@pytest.mark.parametrize("text", ["", "no", "[]", "{}", '{"id": 1}', "[" * 5000, "\ud800"])
async def test_what_is_no_credential_is_an_invalid_request(client: AsyncClient, text: str) -> None:
    body = {"grant_type": "urn:backend-api:grant:passkey", "credential": text.encode(errors="surrogatepass")}
    assert_oauth_error(await client.post("/token", data=body), 400, "invalid_request")


async def test_a_challenge_of_a_session_signs_nobody_in_nor_does_an_old_one(
    app: Litestar, client: AsyncClient, alice: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that the service hasn't made, or not like that; none of them leaves a row."""
    device = Authenticator()
    await device.add_to(alice)
    in_session = await request_options(alice)
    assert [key["id"] for key in in_session["allowCredentials"]] == [device.credential({})["id"]]
    assert_oauth_error(await sign_in_by(client, device.get(in_session)), 401, "invalid_grant")
    options = await request_options(client)
    assert options["allowCredentials"] == []
    before = len(await fetch(app, select(SpentChallenge.digest)))
    raw = decoded(options["challenge"])
    for forged in (b"", raw[:40], raw[:39] + bytes([raw[39] ^ 1]) + raw[40:], bytes(72)):
        wrong = options | {"challenge": b64(forged)}
        assert_oauth_error(await sign_in_by(client, device.get(wrong)), 401, "invalid_grant")
    five_minutes_later(monkeypatch)
    assert_oauth_error(await sign_in_by(client, device.get(options)), 401, "invalid_grant")
    assert len(await fetch(app, select(SpentChallenge.digest))) == before


async def test_a_challenge_has_a_row_once_it_was_signed_and_for_a_day(
    app: Litestar, client: AsyncClient, alice: AsyncClient, parts: Parts
) -> None:
    """Whoever only asks leaves none, however often; it stays until no clock takes the challenge any more."""
    device, spent = Authenticator(), SpentChallengeRepository(parts.database)
    for _ in range(3):
        await request_options(client)
    assert await fetch(app, select(SpentChallenge.digest)) == []
    await device.add_to(alice)
    await device.sign_in(client)
    assert len(await fetch(app, select(SpentChallenge.digest))) == 2
    assert await spent.purge() == 0
    await execute(app, update(SpentChallenge).values(expires_at=now() - timedelta(minutes=6)))
    await device.sign_in(client)
    assert await spent.purge() == 2
    assert len(await fetch(app, select(SpentChallenge.digest))) == 1


async def test_of_eight_who_spend_one_challenge_at_once_one_does(parts: Parts) -> None:
    service = create_challenges(parts)
    challenge = service.new(SIGN_IN, NO_SESSION)
    done = await asyncio.gather(*(service.spend(challenge, SIGN_IN, NO_SESSION) for _ in range(8)))
    assert sorted(done) == [False] * 7 + [True]
    # Decoders pass over these characters.
    for spelling in (f"{challenge}====", f"{challenge[:8]}\n{challenge[8:]}"):
        assert not await service.spend(spelling, SIGN_IN, NO_SESSION)


async def test_a_challenge_of_the_last_key_is_good_during_the_change(parts: Parts) -> None:
    """As where instances are changed one after the other; another purpose, session or key is no use."""
    spent = SpentChallengeRepository(parts.database)
    old, new = Challenges(spent, "old"), Challenges(spent, "new", "old")
    challenge = old.new(SIGN_IN, NO_SESSION)
    assert not await new.spend(challenge, REAUTHENTICATION, NO_SESSION)
    assert not await new.spend(challenge, SIGN_IN, 1)
    assert not await Challenges(spent, "new").spend(challenge, SIGN_IN, NO_SESSION)
    assert await new.spend(challenge, SIGN_IN, NO_SESSION)
    assert not await old.spend(challenge, SIGN_IN, NO_SESSION)


async def test_a_count_must_rise_but_one_that_stays_at_zero_may(
    app: Litestar, client: AsyncClient, alice: AsyncClient
) -> None:
    """A copy of a key counts on from where it was copied."""
    silent, counting = Authenticator(), Authenticator(counts=True)
    for device in (silent, counting):
        await device.add_to(alice)
        for _ in range(2):
            assert (await device.sign_in(client)).status_code == 200
    assert sorted(await fetch(app, select(Passkey.sign_count))) == [(0,), (2,)]
    counting.count = 1
    assert_oauth_error(await counting.sign_in(client), 401, "invalid_grant", WRONG)
    assert (await counting.sign_in(client)).status_code == 200


async def test_whom_a_passkey_does_not_sign_in(
    app: Litestar, client: AsyncClient, alice: AsyncClient, people: People, parts: Parts
) -> None:
    """The key of a disabled or deleted account is refused as an unknown one is, and an operator's reset removes it."""
    device, other = Authenticator(), Authenticator()
    await device.add_to(alice)
    await execute(app, update(User).values(is_active=False))
    assert_oauth_error(await device.sign_in(client), 401, "invalid_grant", WRONG)
    await execute(app, update(User).values(is_active=True))
    assert (await device.sign_in(client)).status_code == 200
    await create_factor_reset(parts).remove_all("alice")
    assert_oauth_error(await device.sign_in(client), 401, "invalid_grant", WRONG)
    bob = await people.sign_in("bob")
    await other.add_to(bob)
    assert (await bob.delete("/users/me")).status_code == 204
    assert_oauth_error(await other.sign_in(client), 401, "invalid_grant", WRONG)
    assert await fetch(app, select(Passkey.id)) == []


async def test_a_scope_narrows_the_session(client: AsyncClient, alice: AsyncClient) -> None:
    device = Authenticator()
    await device.add_to(alice)
    pair = (await device.sign_in(client, scope="items:read")).json()
    assert pair["scope"] == "items:read"
    assert (await client.get("/items", headers=bearer(pair))).status_code == 200
    assert_problem(await client.get("/users/me/factors", headers=bearer(pair)), 403, "Not allowed with this token")
    options = (await client.post("/passkeys/options", headers=bearer(pair))).json()
    assert options["allowCredentials"] == []
    assert_oauth_error(await device.sign_in(client, scope="nothing"), 400, "invalid_scope")


@on_sqlite
async def test_adding_and_removing_need_a_fresh_sign_in(app: Litestar, alice: AsyncClient) -> None:
    passkey = (await Authenticator().add_to(alice)).json()
    credential = Authenticator().create(await creation_options(alice))
    await age(app, 11)
    body = {"name": "Telephone", "credential": credential}
    path = f"/users/me/passkeys/{passkey['id']}"
    for answer in (await alice.post("/users/me/passkeys", json=body), await alice.delete(path)):
        assert_problem(answer, 401, "Sign in again: it was too long ago")
    assert (await alice.patch(path, json={"name": "Laptop"})).status_code == 200


@on_sqlite
async def test_wrong_signatures_are_limited_as_wrong_passwords_are(client: AsyncClient, alice: AsyncClient) -> None:
    """They are counted with them, by account and network."""
    device = Authenticator()
    await device.add_to(alice)
    credential = device.get(await request_options(client))
    statuses = [(await sign_in_by(client, credential)).status_code for _ in range(12)]
    assert statuses == [200, *[401] * 10, 429]
    assert (await log_in(client, "alice")).status_code == 429
    unknown = Authenticator()
    assert [(await unknown.sign_in(client)).status_code for _ in range(11)] == [401] * 10 + [429]


async def test_a_passkey_is_what_a_policy_asks_for(settings: Settings) -> None:
    """Who has one changes factors only in a session that has proved two."""
    app = create_app(replace(settings, second_factor="all"))
    async with connect_to(app) as client:
        pair = await new_user(app)
        alice, device = client_of(app, **bearer(pair)), Authenticator()
        assert_problem(await alice.get("/items"), 403, "A second factor is needed")
        assert (await device.add_to(alice)).status_code == 201
        assert (await alice.get("/items")).status_code == 200
        (owner,) = await fetch(app, select(User.id))
        by_password = client_of(app, **bearer(await open_session(app, owner.id)))
        for path in ("/users/me/passkeys/options", "/users/me/totp"):
            assert_problem(await by_password.post(path), 403, "A second factor is needed")
        by_passkey = await signed_in(app, await device.sign_in(client))
        assert (await by_passkey.post("/users/me/totp")).status_code == 201


@on_sqlite
@pytest.mark.parametrize(
    ("public_url", "domain", "cors", "expected"),
    [
        ("", "", (), ("127.0.0.1", ["http://127.0.0.1:8000"])),
        ("https://api.example.org/v1", "", (), ("api.example.org", ["https://api.example.org"])),
        (
            "https://API.example.org:443",
            "example.org",
            ("https://app.example.org", "https://example.com", "https://badexample.org", "*"),
            ("example.org", ["https://api.example.org", "https://app.example.org"]),
        ),
        ("https://bücher.example", "", (), ("xn--bcher-kva.example", ["https://xn--bcher-kva.example"])),
    ],
)
def test_whom_keys_are_made_for(
    settings: Settings, public_url: str, domain: str, cors: tuple[str, ...], expected: tuple[str, list[str]]
) -> None:
    party = relying_party(replace(settings, public_url=public_url, passkey_domain=domain, cors_origins=cors))
    assert (party.id, party.origins) == expected
