"""ID tokens (OpenID Connect Core, section 2): they tell an application who has signed in, how and when."""

from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from time import time

import jwt

from app.security.signing.keys import SigningKeys

ID_TOKEN = "JWT"  # noqa: S105 - the `typ` of its header
ALGORITHMS = ("RS256", "ES256")
"""The algorithms by which an application may have its ID tokens signed. Both have SHA-256."""


class IdTokens:
    """Issues ID tokens, by keys that are published.

    Call `issue` outside of any transaction: it may have to make and store a key. `amr` has spaces between its parts
    (RFC 8176).
    """

    def __init__(self, keys: SigningKeys, issuer: str) -> None:
        self.keys = keys
        self.issuer = issuer
        keys.algorithms.update(ALGORITHMS)

    async def issue(
        self,
        client_id: str,
        user_id: int,
        *,
        alg: str,
        nonce: str | None,
        auth_time: datetime,
        amr: str,
        access_token: str,
        lifetime: timedelta,
    ) -> str:
        """Return an ID token, which is sent beside an access token. Raise ValueError for another algorithm."""
        if alg not in ALGORITHMS:
            raise ValueError(f"No ID token is signed by {alg}")
        issued = int(time())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": str(user_id),
            "aud": client_id,
            "iat": issued,
            "exp": issued + int(lifetime.total_seconds()),
            "auth_time": int(auth_time.timestamp()),
            "amr": amr.split(),
            "at_hash": half_digest(access_token),
        }
        sent = {} if nonce is None else {"nonce": nonce}
        return (await self.keys.signer_for(alg)).sign(ID_TOKEN, claims | sent)

    async def has_issued(self, id_token: str, client_id: str) -> bool:
        """Return whether an ID token was issued to an application, as far as the present keys tell.

        It may have expired. Call it outside of any transaction: it may read the keys again.
        """
        await self.keys.refresh(())
        try:
            header = jwt.get_unverified_header(id_token)
            key = next((one.key for one in self.keys.schedule if one.key.kid == header.get("kid")), None)
            if key is None or key.algorithm not in ALGORITHMS or header.get("typ") != ID_TOKEN:
                return False
            jwt.decode(
                id_token,
                key.verifier,
                algorithms=[key.algorithm],
                issuer=self.issuer,
                audience=client_id,
                options={
                    "require": ["iss", "aud", "sub"],
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidTokenError:
            return False
        return True


def half_digest(token: str) -> str:
    """Return what binds an ID token to an access token (section 3.1.3.6): half of its SHA-256, in base64url."""
    return urlsafe_b64encode(sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()
