"""The feature of second factors: its routes, its step of the sign-in, its policy, jobs and command."""

from litestar.openapi.spec import Tag

from app.auth.feature import create_auth_service, create_credential_service
from app.auth.repository import SessionRepository
from app.factors.commands import reset_factors
from app.factors.controller import FactorController
from app.factors.guard import checks_of
from app.factors.jobs import FactorMails
from app.factors.listing import FactorList
from app.factors.passkeys.challenges import Challenges
from app.factors.passkeys.controller import PasskeyController, grant_of
from app.factors.passkeys.relying_party import relying_party
from app.factors.passkeys.repository import PasskeyRepository, SpentChallengeRepository
from app.factors.passkeys.service import PasskeyService
from app.factors.passkeys.sign_in import PasskeySignIn
from app.factors.policy import Policy
from app.factors.reauthentication import Reauthentication
from app.factors.repository import FactorRepository
from app.factors.reset import FactorReset
from app.factors.service import TotpService
from app.factors.wrong_codes import WrongCodes
from app.http.feature import Feature, Parts, provide
from app.http.openapi.document import TITLE
from app.security.encryption import Encryption

PASSKEY_GRANT = "urn:backend-api:grant:passkey"
EVENTS = {
    "totp_added": "An authenticator app became the second factor, which ended all other sessions",
    "totp_removed": "The authenticator app was removed, with its recovery codes",
    "code_refused": "The first code of an authenticator app was wrong",
    "recovery_codes_replaced": "The recovery codes were replaced",
    "recovery_code_used": "A recovery code was used, and is spent",
    "passkey_added": "A passkey was added: `passkey_id`",
    "passkey_removed": "A passkey was removed: `passkey_id`",
    "reauthenticated": "A session's user proved who they are again; `amr` says how (RFC 8176)",
    "proof_refused": "The code of such a proof was wrong",
    "factors_reset": "An operator removed every second factor, and ended the sessions",
}


def feature(parts: Parts) -> Feature:
    """Return authenticator apps with recovery codes, passkeys, and the policy that asks for them."""
    factors, mails = FactorRepository(parts.database), create_mails(parts)
    policy = Policy(parts.settings.second_factor, factors)
    totp = create_totp_service(parts)
    passkey_sign_in = create_passkey_sign_in(parts)
    return Feature(
        routes=[FactorController, PasskeyController],
        tags=[Tag("Second factor", "Codes of an authenticator app, recovery codes, and passkeys.")],
        dependencies=provide(
            totp=totp,
            passkeys=create_passkey_service(parts),
            passkey_sign_in=passkey_sign_in,
            reauthentication=Reauthentication(
                create_credential_service(parts), totp, passkey_sign_in, SessionRepository(parts.database), parts.events
            ),
            factor_list=FactorList(factors, PasskeyRepository(parts.database)),
        ),
        grants={PASSKEY_GRANT: grant_of(passkey_sign_in)},
        chores=[SpentChallengeRepository(parts.database).purge],
        events=EVENTS,
        second_steps=[totp.check],
        checks=checks_of(policy),
        jobs=mails.handlers,
        commands=[reset_factors(create_factor_reset(parts))],
    )


def create_mails(parts: Parts) -> FactorMails:
    """Return what mails people about their second factors."""
    return FactorMails(FactorRepository(parts.database), parts.mails, parts.mail)


def create_factor_reset(parts: Parts) -> FactorReset:
    """Return the service by which an operator removes second factors."""
    return FactorReset(FactorRepository(parts.database), create_mails(parts), parts.events)


def create_totp_service(parts: Parts) -> TotpService:
    """Return the service of authenticator apps and recovery codes."""
    factors, mails, settings = FactorRepository(parts.database), create_mails(parts), parts.settings
    return TotpService(
        factors,
        SessionRepository(parts.database),
        Encryption(settings.secret_key, settings.secret_key_previous, purpose="totp secrets"),
        WrongCodes(parts.limits, mails),
        mails,
        Policy(settings.second_factor, factors),
        parts.events,
        issuer=TITLE,
    )


def create_challenges(parts: Parts) -> Challenges:
    """Return the service of what passkeys sign."""
    settings = parts.settings
    return Challenges(SpentChallengeRepository(parts.database), settings.secret_key, settings.secret_key_previous)


def create_passkey_service(parts: Parts) -> PasskeyService:
    """Return the service that adds and removes passkeys."""
    factors = FactorRepository(parts.database)
    return PasskeyService(
        relying_party(parts.settings),
        PasskeyRepository(parts.database),
        create_challenges(parts),
        SessionRepository(parts.database),
        create_mails(parts),
        Policy(parts.settings.second_factor, factors),
        parts.events,
    )


def create_passkey_sign_in(parts: Parts) -> PasskeySignIn:
    """Return the service that checks what passkeys have signed, and signs people in by them."""
    return PasskeySignIn(
        relying_party(parts.settings),
        PasskeyRepository(parts.database),
        create_challenges(parts),
        create_auth_service(parts),
        parts.limits,
        parts.events,
    )
