"""Tokens: the JWTs that this service signs and verifies (RFC 7519, RFC 9068)."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from time import time
from typing import Annotated

import jwt
from jwt import PyJWK
from jwt.algorithms import HMACAlgorithm
from jwt.utils import base64url_encode, force_bytes
from msgspec import Meta, Struct, convert, to_builtins

from app.security.signing.algorithms import ALGORITHMS
from app.security.signing.keys import Scheduled, SigningKeys

ACCESS = "at+jwt"
REFRESH = "rt+jwt"
RESET = "reset+jwt"
VERIFICATION = "verification+jwt"
ADDRESS_UNDO = "address-undo+jwt"
KINDS = (ACCESS, REFRESH, RESET, VERIFICATION, ADDRESS_UNDO)
"""The `typ` header of each kind of token (RFC 9068 has that of access tokens). No kind is accepted for another."""
REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
LEEWAY_SECONDS = 30
DEFAULT_HASH = "HS256"
REMEMBERED_TOKENS = 1024
"""The most tokens that are known to be genuine, some 2 MiB. Nobody but their holders can crowd them out."""
HASHES = {"HS256": HMACAlgorithm.SHA256, "HS384": HMACAlgorithm.SHA384, "HS512": HMACAlgorithm.SHA512}


class InvalidTokenError(Exception):
    """The token is malformed, forged, expired, or of another kind."""


class UnknownKeyError(InvalidTokenError):
    """No key that this process knows has signed the access token; another process may have made one meanwhile."""


class Claims(Struct, frozen=True, omit_defaults=True):
    """The claims of a token (RFC 7519): issuer, audience, subject (a user's id), its own id, and times in seconds."""

    iss: str
    aud: str
    sub: Annotated[str, Meta(pattern="^([1-9][0-9]{0,17}|client:[0-9A-Za-z]{1,64})$")]
    jti: str
    iat: int
    exp: int
    sid: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """The session of an access or a refresh token."""
    gen: int = 0
    """The generation of a refresh token: the number of times that its session had been refreshed before."""
    scope: str = ""
    """The scopes of an access token (RFC 9068, section 2.2.3); without any, it may do everything that its user may."""
    client_id: str = ""
    """The application of an access or a refresh token (RFC 9068, section 2.2); none for a person's own session."""
    state: str = ""
    """A fingerprint of what a mailed token may change; once that has changed, the token no longer works."""

    @property
    def user_id(self) -> int:
        """The id of the user for whom the token was issued; 0, which nobody has, for an application's own."""
        return 0 if self.is_applications else int(self.sub)

    @property
    def is_applications(self) -> bool:
        """True for an access token by which an application acts for itself (RFC 9068, section 2.2)."""
        return self.sub.startswith("client:")


class Tokens:
    """Signs and verifies the tokens of one issuer, which is also their audience, each kind by one fixed algorithm.

    All tokens of one kind and key have the same header, so the header is compared as a whole: no algorithm, type, key
    id or critical extension can be confused (RFC 8725). Tokens of the previous key are still accepted.

    Access tokens may be signed by asymmetric keys, so that others can verify them. All other kinds are for this service
    alone, and signed with its secret. Those of another length of hash are still accepted: after a change of algorithm,
    whoever is signed in gets new access tokens.
    """

    def __init__(
        self,
        *,
        secret: str,
        algorithm: str,
        issuer: str,
        previous_secret: str = "",
        signing_keys: SigningKeys | None = None,
    ) -> None:
        """`signing_keys` are needed for an asymmetric algorithm only."""
        self.secret = secret
        self.algorithm = algorithm
        self.issuer = issuer
        self.hash = algorithm if algorithm in HASHES else DEFAULT_HASH
        self.signing_keys = signing_keys if algorithm in ALGORITHMS else None
        self.jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
        # A token of a key is genuine once and for all: only the key and the time are looked at again.
        self.verified = lru_cache(REMEMBERED_TOKENS)(self._verify)
        own = [secret, previous_secret] if previous_secret else [secret]
        self.keys = {kind: self._secret_keys(kind, own, self._hashes(kind)) for kind in KINDS}
        if self.signing_keys:
            self.signing_keys.algorithms.add(algorithm)
            self.signing_keys.observers.append(self._accept)

    @property
    def asymmetric(self) -> Sequence[str]:
        """The algorithm whose keys sign access tokens; none where the secret does."""
        return [self.algorithm] if self.signing_keys else []

    def issue(
        self,
        kind: str,
        subject: int | str,
        lifetime: timedelta,
        *,
        sid: int = 0,
        gen: int = 0,
        scope: str = "",
        client_id: str = "",
        state: str = "",
    ) -> str:
        """Return a signed token of one kind for a user's id or an application, valid from now on for `lifetime`."""
        issued = int(time())
        claims = Claims(
            iss=self.issuer,
            aud=self.issuer,
            sub=str(subject),
            jti=secrets.token_urlsafe(12),
            iat=issued,
            exp=issued + int(lifetime.total_seconds()),
            sid=sid,
            gen=gen,
            scope=scope,
            client_id=client_id,
            state=state,
        )
        if kind == ACCESS and self.signing_keys:
            return self.signing_keys.signer(self.algorithm).sign(kind, to_builtins(claims))
        return self._sign(kind, to_builtins(claims), self.secret, self.hash)

    async def read_access(self, token: str, *, expired_too: bool = False) -> Claims:
        """Return the claims of a valid access token as `read` does.

        The key of a token may be so new that this process doesn't know it: then the keys are read again, but rarely.
        """
        try:
            return self.read(ACCESS, token, expired_too=expired_too)
        except UnknownKeyError:
            if self.signing_keys is None:
                raise
        await self.signing_keys.look_again()
        return self.read(ACCESS, token, expired_too=expired_too)

    def read(self, kind: str, token: str, *, expired_too: bool = False) -> Claims:
        """Return the claims of a valid token of one kind, or with `expired_too` of an expired one.

        Clocks may differ by LEEWAY_SECONDS. Raise InvalidTokenError, and UnknownKeyError where signing keys are used.
        """
        key = self.keys[kind].get(token.partition(".")[0])
        if key is None:
            raise UnknownKeyError if kind == ACCESS and self.signing_keys else InvalidTokenError
        claims = self.verified(token, key)
        if claims.exp <= time() - LEEWAY_SECONDS and not expired_too:
            raise InvalidTokenError
        return claims

    def _verify(self, token: str, key: PyJWK) -> Claims:
        """Return the claims of a token of a key, which may have expired. Raise InvalidTokenError."""
        try:
            payload = self.jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self.issuer,
                audience=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED, "strict_aud": True, "verify_exp": False},
            )
            return convert(payload, Claims)
        except (jwt.InvalidTokenError, ValueError) as error:
            raise InvalidTokenError from error

    def _hashes(self, kind: str) -> Sequence[str]:
        """Return the algorithms by which tokens of a kind may be signed with the secret."""
        if kind == ACCESS:
            return [self.hash] if self.algorithm in HASHES else []
        return [self.hash, *(name for name in HASHES if name != self.hash)]

    def _secret_keys(self, kind: str, own: Sequence[str], hashes: Sequence[str]) -> dict[str, PyJWK]:
        """Return the keys of own secrets, where they are long enough, by the headers of their tokens."""
        return {
            self._sign(kind, {}, secret, name).partition(".")[0]: verification_key(secret, name)
            for secret in own
            for name in hashes
            if name == self.hash or len(secret.encode()) >= HASHES[name]().digest_size
        }

    def _accept(self, schedule: Sequence[Scheduled]) -> None:
        """Accept the access tokens of the keys that were read, and of no others."""
        keys = [scheduled.key for scheduled in schedule if scheduled.key.algorithm == self.algorithm]
        self.keys[ACCESS] = {key.header(ACCESS): key.verifier for key in keys}

    def _sign(self, kind: str, claims: dict[str, object], key: str, algorithm: str) -> str:
        return self.jwt.encode(claims, key, algorithm=algorithm, headers={"typ": kind, "kid": fingerprint(key)})


class PreparedHMAC(HMACAlgorithm):
    """HMAC with a key that was checked once; PyJWT checks it for each token, which takes as long as the MAC itself."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Return the key as bytes, unchecked."""
        # Not reported: `_verify_signature` in jwt/api_jws.py.
        return force_bytes(key)


def verification_key(secret: str, algorithm: str) -> PyJWK:
    """Return the key that verifies the tokens signed with a secret."""
    key = PyJWK({"kty": "oct", "k": base64url_encode(secret.encode()).decode()}, algorithm)
    key.Algorithm = PreparedHMAC(HASHES[algorithm])
    return key


def fingerprint(text: str) -> str:
    """Return a short digest that tells texts apart and doesn't reveal them: 64 bits of SHA-256, in hexadecimal."""
    return sha256(text.encode()).hexdigest()[:16]
