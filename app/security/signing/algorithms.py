"""The algorithms of signing keys (RFC 7518, RFC 8037), and a key of one in memory."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms
from jwt.utils import base64url_encode

JWK: TypeAlias = dict[str, Any]
PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

# Each has 128 bits of security; RSA needs 3072 for that (NIST SP 800-57, part 1).
GENERATORS: dict[str, Callable[[], PrivateKey]] = {
    "RS256": partial(rsa.generate_private_key, public_exponent=65537, key_size=3072),
    "ES256": partial(ec.generate_private_key, ec.SECP256R1()),
    "EdDSA": Ed25519PrivateKey.generate,
}
ALGORITHMS = frozenset(GENERATORS)
# The members of a public key that its thumbprint is made of (RFC 7638, section 3.2; RFC 8037, section 2).
THUMBPRINT = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}


class SigningKey:
    """A private key of one algorithm, and its public part as a JWK."""

    def __init__(self, algorithm: str, private: PrivateKey) -> None:
        self.algorithm = algorithm
        self.private = private
        public: JWK = get_default_algorithms()[algorithm].to_jwk(private.public_key(), as_dict=True)
        public.pop("key_ops", None)  # `use` says it (RFC 7517, section 4.3).
        self.kid = thumbprint(public)
        self.jwk: JWK = {**public, "use": "sig", "alg": algorithm, "kid": self.kid}
        self.verifier = PyJWK(self.jwk, algorithm)
        self.jwt = jwt.PyJWT()
        self.headers: dict[str, str] = {}

    @classmethod
    def generate(cls, algorithm: str) -> "SigningKey":
        """Return a new key; one for RS256 takes the processor for about half a second."""
        return cls(algorithm, GENERATORS[algorithm]())

    @classmethod
    def load(cls, algorithm: str, der: bytes) -> "SigningKey":
        """Return a key that was stored. Raise ValueError for one of another algorithm.

        Its encryption says that this service has made it. To check an RSA key again takes the processor for a fifth of
        a second, in which no other request moves on, and those that hold locks keep them.
        """
        private = load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(private, PrivateKey):
            raise ValueError("The key is of another kind")  # noqa: TRY004 - its bytes say which
        return cls(algorithm, private)

    def der(self) -> bytes:
        """Return the key as it is stored once it is encrypted (PKCS #8)."""
        return self.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, kind: str, claims: Mapping[str, object]) -> str:
        """Return a token of a kind, which is its header's `typ`."""
        headers = {"typ": kind, "kid": self.kid}
        return self.jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers=headers)

    def header(self, kind: str) -> str:
        """Return the header of all its tokens of a kind, as it is encoded."""
        if kind not in self.headers:
            self.headers[kind] = self.sign(kind, {}).partition(".")[0]
        return self.headers[kind]


def thumbprint(public: JWK) -> str:
    """Return the thumbprint of a public key (RFC 7638), by which it is known."""
    members = {name: public[name] for name in THUMBPRINT[public["kty"]]}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return base64url_encode(sha256(text.encode()).digest()).decode()
