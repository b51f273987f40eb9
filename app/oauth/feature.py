"""The feature of applications: OAuth 2.1 and OpenID Connect for others."""

from collections.abc import Callable
from functools import partial

from litestar.openapi.spec import Tag
from litestar.types import ASGIApp

from app.auth.access_tokens import AccessTokens
from app.auth.feature import create_auth_service, lifetimes
from app.auth.repository import CredentialRepository, SessionRepository
from app.http.cors import OriginLayer
from app.http.docs.pages import DOCS_CLIENT, SCALAR_REDIRECT, SWAGGER_REDIRECT
from app.http.feature import Feature, Parts, provide
from app.http.grants import Grant
from app.oauth.authentication import StoredApplications
from app.oauth.authorization import AuthorizationService
from app.oauth.client_credentials import ClientCredentialsService
from app.oauth.clients import CODE_GRANT, CREDENTIALS_GRANT, DEVICE_GRANT, ClientService
from app.oauth.codes.repository import CodeRepository
from app.oauth.codes.service import CodeService
from app.oauth.commands import create_client
from app.oauth.controller import (
    ClientController,
    DeviceController,
    GrantController,
    ProtocolController,
    code_grant,
    credentials_grant,
    device_grant,
)
from app.oauth.devices.repository import DeviceRepository
from app.oauth.devices.service import DeviceService
from app.oauth.grants import GrantService
from app.oauth.introspection import IntrospectionService
from app.oauth.repository import (
    BuiltIn,
    ClientRepository,
    ClientTokenRepository,
    GrantRepository,
)
from app.security.id_tokens import IdTokens

EVENTS = {
    "client_created": "An application was registered",
    "client_changed": "An application was changed",
    "client_deleted": "An application was removed, with all its tokens",
    "client_secret_created": "An application got another secret; the one before it is good for another day",
    "grant_given": "A person has granted an application some scopes",
    "grant_ended": "A person has ended what an application may do",
    "client_token_created": "An application got an access token of its own, which acts for nobody",
    "code_reused": "A code came a second time, which ended the session that it had opened",
}
CALLED_BY_PAGES = ("/token", "/revoke", "/userinfo")
"""The paths that pages of applications may call in a browser."""


class OAuthParts:
    """The repositories and services of which those of this feature are built, each made once."""

    def __init__(self, parts: Parts) -> None:
        database = parts.database
        self.clients = ClientRepository(database, parts.scopes, docs_client(parts) if has_pages(parts) else None)
        self.grants = GrantRepository(database)
        self.codes = CodeRepository(database)
        self.devices = DeviceRepository(database)
        self.client_tokens = ClientTokenRepository(database)
        self.sessions = SessionRepository(database)
        self.credentials = CredentialRepository(database)
        self.auth = create_auth_service(parts)
        self.access_tokens = AccessTokens(parts.tokens, self.sessions, parts.applications)
        self.id_tokens = IdTokens(parts.signing_keys, parts.settings.url)
        self.grant_service = GrantService(self.grants, self.clients, parts.events)


def feature(parts: Parts) -> Feature:
    """Return the applications, what people grant them, and the ways in which they get tokens."""
    own = OAuthParts(parts)
    parts.applications.store = StoredApplications(
        own.clients, own.grant_service, own.client_tokens, own.access_tokens, own.id_tokens
    )
    clients = ClientService(own.clients, own.sessions, parts.events, parts.scopes)
    devices = create_device_service(parts, own)
    for_devices = [DeviceController] if has_pages(parts) else []
    return Feature(
        routes=[ClientController, GrantController, ProtocolController, *for_devices],
        tags=[Tag("Applications", "Other applications, which sign people in and act for them (OAuth 2.1).")],
        dependencies=provide(
            clients=clients,
            grants=own.grant_service,
            devices=devices,
            introspection=IntrospectionService(own.access_tokens, parts.tokens, own.sessions, parts.bearers),
            authorization=create_authorization_service(parts, own),
        ),
        events=EVENTS,
        metadata=metadata(parts),
        grants=create_grants(parts, own, devices),
        layers=[origin_layer(parts, own.clients)],
        chores=[own.codes.purge, own.devices.purge, own.client_tokens.purge],
        commands=[create_client(clients)],
    )


def metadata(parts: Parts) -> dict[str, object]:
    """Return what the server's metadata says of applications: what isn't there isn't named."""
    url, secrets = parts.settings.url, ["client_secret_basic", "client_secret_post"]
    said: dict[str, object] = {
        "token_endpoint_auth_methods_supported": [*secrets, "none"],
        "revocation_endpoint_auth_methods_supported": [*secrets, "none"],
        "introspection_endpoint": f"{url}/introspect",
        "introspection_endpoint_auth_methods_supported": secrets,
    }
    if has_pages(parts):
        said |= {
            "authorization_endpoint": f"{url}/authorize",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "device_authorization_endpoint": f"{url}/device_authorization",
        }
    return said


def create_grants(parts: Parts, own: OAuthParts, devices: DeviceService) -> dict[str, Grant]:
    """Return the ways in which applications get tokens; where there are no pages, only that which needs no person."""
    lifetime = lifetimes(parts.settings).access
    client_credentials = ClientCredentialsService(
        own.client_tokens, parts.tokens, parts.applications, parts.events, lifetime=lifetime
    )
    codes = CodeService(own.codes, own.grants, own.sessions, own.auth, own.id_tokens, parts.events)
    grants = {CREDENTIALS_GRANT: credentials_grant(client_credentials)}
    if has_pages(parts):
        grants |= {CODE_GRANT: code_grant(codes), DEVICE_GRANT: device_grant(devices)}
    return grants


def docs_client(parts: Parts) -> BuiltIn:
    """Return the application by which the pages of the API's documentation sign in."""
    uris = " ".join(f"{parts.settings.url}/{page}" for page in (SWAGGER_REDIRECT, SCALAR_REDIRECT))
    return BuiltIn(DOCS_CLIENT, f"{parts.settings.pages_title} docs", uris, parts.scopes)


def has_pages(parts: Parts) -> bool:
    """Return whether people can sign in on pages of this service: without, nobody can answer an application."""
    return parts.settings.account_pages and "pages" in parts.features


def create_device_service(parts: Parts, own: OAuthParts) -> DeviceService:
    """Return the service that lets devices in."""
    return DeviceService(own.devices, own.grant_service, own.credentials, own.auth, parts.limits)


def create_authorization_service(parts: Parts, own: OAuthParts) -> AuthorizationService:
    """Return the service that answers /authorize."""
    return AuthorizationService(
        own.clients,
        own.grants,
        own.codes,
        own.credentials,
        own.grant_service,
        own.id_tokens,
        issuer=parts.settings.url,
    )


def origin_layer(parts: Parts, clients: ClientRepository) -> Callable[[ASGIApp], ASGIApp]:
    """Return the layer that lets pages of applications call the endpoints that they need."""
    others = parts.settings.cors_origins
    return partial(OriginLayer, paths=CALLED_BY_PAGES, is_known=clients.is_origin, others=others)
