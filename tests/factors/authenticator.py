"""A device with passkeys, in software: it makes keys (ES256, without attestation) and signs challenges by them."""

import base64
import json
from hashlib import sha256
from secrets import token_bytes
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from httpx import AsyncClient, Response
from litestar import Litestar
from sqlalchemy import insert

from app.database.models import now
from app.factors.models import Passkey
from tests.auth.oauth import execute

Json = dict[str, Any]
GRANT = "urn:backend-api:grant:passkey"
ORIGIN = "http://127.0.0.1:8000"
RP_ID = "127.0.0.1"
PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, HAS_KEY = 0x01, 0x04, 0x08, 0x10, 0x40


def b64(content: bytes) -> str:
    """Return bytes in base64url, without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def cbor(value: object) -> bytes:
    """Return a value in CBOR (RFC 8949), of the few types that a device needs."""
    match value:
        case int() if value < 0:
            return head(1, -1 - value)
        case int():
            return head(0, value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value)) + value.encode()
        case dict():
            return head(5, len(value)) + b"".join(cbor(key) + cbor(part) for key, part in value.items())
    raise TypeError(value)


def head(kind: int, count: int) -> bytes:
    """Return the first bytes of a value."""
    if count < 24:
        return bytes([kind << 5 | count])
    return bytes([kind << 5 | 24, count]) if count < 256 else bytes([kind << 5 | 25]) + count.to_bytes(2)


class Authenticator:
    """A device with one key; `counts` says whether it counts its signatures."""

    def __init__(self, *, counts: bool = False, rp_id: str = RP_ID, origin: str = ORIGIN) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.credential_id = token_bytes(16)
        self.counts, self.count = counts, 0
        self.rp_id, self.origin = rp_id, origin
        self.flags = PRESENT | VERIFIED | ELIGIBLE | BACKED_UP
        self.handle = b64(bytes(8))

    def create(self, options: Json) -> Json:
        """Return what a browser does by `navigator.credentials.create()`."""
        self.handle = options["user"]["id"]
        numbers = self.key.public_key().public_numbers()
        public = cbor({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)})
        attested = bytes(16) + len(self.credential_id).to_bytes(2) + self.credential_id + public
        data = self.data(self.flags | HAS_KEY) + attested
        attestation = cbor({"fmt": "none", "attStmt": {}, "authData": data})
        client_data = self.client_data("webauthn.create", options["challenge"])
        return self.credential({"clientDataJSON": b64(client_data), "attestationObject": b64(attestation)})

    def get(self, options: Json) -> Json:
        """Return what a browser does by `navigator.credentials.get()`."""
        self.count += self.counts
        data, client_data = self.data(self.flags), self.client_data("webauthn.get", options["challenge"])
        signature = self.key.sign(data + sha256(client_data).digest(), ec.ECDSA(SHA256()))
        parts = {"clientDataJSON": client_data, "authenticatorData": data, "signature": signature}
        return self.credential({name: b64(part) for name, part in parts.items()} | {"userHandle": self.handle})

    def data(self, flags: int) -> bytes:
        """Return what a device says of itself: for whom it signs, how, and how often it has."""
        return sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4)

    def client_data(self, kind: str, challenge: str) -> bytes:
        """Return what a browser tells the device."""
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}).encode()

    def credential(self, response: Json) -> Json:
        """Return a credential with a response, and with what browsers add."""
        identity = b64(self.credential_id)
        extras = {"authenticatorAttachment": "platform", "clientExtensionResults": {}}
        return {"id": identity, "rawId": identity, "type": "public-key", "response": response, **extras}

    async def add_to(self, client: AsyncClient, name: str = "Telephone") -> Response:
        """Make a key for the account of a client, and return the answer."""
        options = await client.post("/users/me/passkeys/options")
        assert options.status_code == 200, options.text
        credential = self.create(options.json())
        return await client.post("/users/me/passkeys", json={"name": name, "credential": credential})

    async def sign_in(self, client: AsyncClient, **form: str) -> Response:
        """Sign in by the key, and return the answer."""
        return await sign_in_by(client, self.get(await request_options(client)), **form)


async def request_options(client: AsyncClient) -> Json:
    """Return the options of a sign-in, or of a proof in a client's session."""
    answer = await client.post("/passkeys/options")
    assert answer.status_code == 200, answer.text
    options: Json = answer.json()
    return options


async def sign_in_by(client: AsyncClient, credential: object, **form: str) -> Response:
    """Sign in by what a key has signed, and return the answer."""
    return await client.post("/token", data={"grant_type": GRANT, "credential": json.dumps(credential), **form})


async def add_passkeys(app: Litestar, user_id: int, count: int) -> None:
    """Add passkeys of devices that nobody has."""
    common = {"user_id": user_id, "public_key": b"", "sign_count": 0, "name": "old", "backed_up": False}
    rows = [common | {"credential_id": bytes([number]), "created_at": now()} for number in range(count)]
    await execute(app, insert(Passkey).values(rows))
