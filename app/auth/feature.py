"""The feature of authentication: the guard, and its routes, services and jobs."""

from datetime import timedelta

from litestar.middleware import DefineMiddleware
from litestar.openapi.spec import Tag

from app.auth.access import Access
from app.auth.access_tokens import AccessTokens
from app.auth.browsers import BrowserSessions
from app.auth.commands import rotate_signing_keys
from app.auth.controller import CredentialController, OAuthController, grants_of
from app.auth.credentials import CredentialService
from app.auth.discovery.controller import DiscoveryController
from app.auth.guard import create_guard
from app.auth.jobs import CredentialMails
from app.auth.last_write import LastWrite
from app.auth.repository import CredentialRepository, SessionRepository
from app.auth.service import AuthService
from app.auth.sessions import Lifetimes, SessionService
from app.auth.sign_in import PasswordSignIn
from app.auth.two_steps import TwoStepSignIn
from app.http.feature import Feature, Parts, provide
from app.settings import Settings

# Clients that speak OpenID Connect ask for these, which give no right to any route.
OPENID_SCOPES = {
    "openid": "Tell who you are",
    "profile": "Tell your username",
    "email": "Tell your e-mail address",
    "offline_access": "Stay signed in",
}
# What each of this feature's security events tells.
EVENTS = {
    "login": "A session was opened; `amr` says how (RFC 8176)",
    "login_failed": (
        "A login was refused: the name is unknown, the password wrong, or the account disabled; or, as `factor` says, "
        "the second factor was wrong"
    ),
    "login_limited": "A login was refused, since too many have failed",
    "refresh_failed": "A refresh token was refused: its session has ended",
    "refresh_repeated": "A refresh token was sent again within ten seconds, as after a lost answer",
    "refresh_token_reused": "A spent refresh token was sent again, which ended the session",
    "logout": "The session was ended by whoever was signed in, or had one of its tokens",
    "session_ended": "A session was ended: `ended_id`",
    "other_sessions_ended": "All other sessions were ended: `count` of them",
    "password_refused": "The current password, which a change needs, was wrong",
    "password_changed": "The password was changed, which ended all other sessions",
    "password_reset_requested": "A new password was asked for, for an address that may be nobody's",
    "password_reset": "The password was set by a mailed token, which ended all sessions",
    "password_reset_failed": "A mailed token for a new password was refused",
}


def feature(parts: Parts) -> Feature:
    """Return the guard, the OAuth2 endpoints, and the routes of the caller's sessions and password."""
    credentials, sessions = CredentialRepository(parts.database), SessionRepository(parts.database)
    fresh_sign_in = timedelta(minutes=parts.settings.fresh_sign_in_minutes)
    guard = create_guard(
        AccessTokens(parts.tokens, sessions, parts.applications), parts.bearers, parts.scopes, fresh_sign_in
    )
    auth = create_auth_service(parts)
    closed = set() if parts.settings.password_grant else {"password"}
    return Feature(
        routes=[OAuthController, DiscoveryController, CredentialController],
        scopes=OPENID_SCOPES,
        grants={kind: grant for kind, grant in grants_of(auth).items() if kind not in closed},
        events=EVENTS,
        tags=[Tag("Authentication", "Signing in and out, by OAuth2 (RFC 6749).")],
        dependencies=provide(
            auth=auth,
            credentials=create_credential_service(parts),
            sessions=SessionService(sessions, lifetimes(parts.settings), parts.events),
            signing_keys=parts.signing_keys,
        ),
        on_app_init=[guard],
        middleware=[DefineMiddleware(LastWrite)] if parts.replicas.standbys else [],
        jobs=CredentialMails(credentials, parts.mails, parts.mail, parts.tokens).handlers,
        chores=[sessions.purge, parts.signing_keys.purge],
        commands=[rotate_signing_keys(parts.signing_keys)],
    )


def create_auth_service(parts: Parts) -> AuthService:
    """Return the service that opens, renews and ends sessions."""
    credentials = CredentialRepository(parts.database)
    return AuthService(
        credentials,
        SessionRepository(parts.database),
        PasswordSignIn(credentials, parts.passwords, parts.limits, parts.events, parts.second_steps),
        parts.tokens,
        lifetimes(parts.settings),
        parts.applications,
        parts.events,
    )


def create_credential_service(parts: Parts) -> CredentialService:
    """Return the service that checks and sets passwords."""
    return CredentialService(
        CredentialRepository(parts.database),
        create_access(parts),
        parts.passwords,
        parts.password_policy,
        parts.tokens,
        parts.limits,
        parts.mails,
        parts.events,
    )


def create_access(parts: Parts) -> Access:
    """Return what ends sessions and tokens."""
    return Access(SessionRepository(parts.database), parts.bearers, parts.applications)


def lifetimes(settings: Settings) -> Lifetimes:
    """Return the lifetimes of tokens and sessions that are set."""
    return Lifetimes(
        access=timedelta(minutes=settings.access_token_expire_minutes),
        idle=timedelta(days=settings.refresh_token_idle_days),
        absolute=timedelta(days=settings.refresh_token_absolute_days),
    )


def create_browser_sessions(parts: Parts) -> BrowserSessions:
    """Return the service that keeps the sessions of browsers."""
    return BrowserSessions(SessionRepository(parts.database), parts.tokens, lifetimes(parts.settings), parts.events)


def create_two_step_sign_in(parts: Parts) -> TwoStepSignIn:
    """Return the service by which people sign in on pages."""
    return TwoStepSignIn(create_auth_service(parts), parts.settings.secret_key)
