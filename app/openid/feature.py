"""The feature of OpenID Connect: who somebody is, and what applications learn of this service by themselves."""

from app.http.feature import Feature, Parts, provide
from app.openid.controller import ProviderController, UserInfoController
from app.openid.repository import PersonRepository
from app.openid.service import PersonService
from app.security.id_tokens import ALGORITHMS

CLAIMS = ("sub", "preferred_username", "updated_at", "email", "email_verified")
"""The claims of /userinfo."""
ID_TOKEN_CLAIMS = ("iss", "aud", "exp", "iat", "auth_time", "amr", "nonce", "at_hash")
"""The claims of ID tokens beside `sub`."""


def feature(parts: Parts) -> Feature:
    """Return /userinfo, and the metadata of OpenID Connect (Discovery 1.0, section 3)."""
    # Without applications nobody gets an ID token, and none is promised.
    algorithms, claims = (ALGORITHMS, ID_TOKEN_CLAIMS) if "oauth" in parts.features else ((), ())
    # What the metadata promises is published, also before the first ID token.
    parts.signing_keys.algorithms.update(algorithms)
    return Feature(
        routes=[ProviderController, UserInfoController],
        dependencies=provide(people=PersonService(PersonRepository(parts.database))),
        metadata={
            "userinfo_endpoint": f"{parts.settings.url}/userinfo",
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(algorithms),
            "claims_supported": [*CLAIMS, *claims],
            "claims_parameter_supported": False,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
        },
    )
